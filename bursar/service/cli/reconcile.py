"""`bursar reconcile`: rows compared with Stripe, as a table or as JSON, and repaired within a bound (MS-10)."""

import asyncio
import json as jsons
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from bursar.billing.kiloclaw.reconciling import Finding
from bursar.service.checks.reconcile_step import counts_of
from bursar.service.checks.reconciling import MAX_REPAIRS, Reconciling, Report
from bursar.service.gateways.stripe import Priority
from bursar.service.processes.foundation import foundation
from bursar.service.processes.outside import opened_stripe
from bursar.service.settings import Settings, load_settings

CONNECTIONS = 2


def reconcile(
    repair: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, max=MAX_REPAIRS, help="Have at most so many read again at Stripe; default: none."
        ),
    ] = 0,
    *,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare rows with Stripe: missing here, missing there, different, stale. Changes nothing without --repair."""
    report = asyncio.run(_run(load_settings(Settings), repair))
    if json:
        fields = {**counts_of(report), "findings": [_fields(one) for one in report.findings]}
        typer.echo(jsons.dumps(fields, indent=2))
    else:
        _print(report)


async def _run(settings: Settings, repairs: int) -> Report:
    async with (
        foundation(settings, "reconcile", connections=CONNECTIONS) as base,
        opened_stripe(settings, base.metrics) as stripe,
    ):
        reconciling = Reconciling(stripe.at(Priority.SWEEP), base.decider, base.catalogue, repairs=repairs)
        columns = (SpinnerColumn(), TextColumn("{task.description} {task.completed:.0f}"), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            comparing = bar.add_task("Subscriptions compared:", total=None)

            async def so_far(number: int) -> None:
                bar.update(comparing, completed=number)

            return await reconciling.run(so_far)


def _fields(finding: Finding) -> dict[str, object]:
    return {
        "kind": finding.kind,
        "stripe_subscription_id": finding.stripe_subscription_id,
        "account": finding.account_key,
        "fields": list(finding.fields),
    }


def _print(report: Report) -> None:
    table = Table("kind", "subscription", "account", "fields")
    for one in report.findings:
        table.add_row(one.kind, one.stripe_subscription_id, one.account_key or "", ", ".join(one.fields))
    if report.findings:
        Console(highlight=False, markup=False).print(table)
    counts = ", ".join(f"{kind} {number}" for kind, number in sorted(report.counts.items())) or "all fit"
    typer.echo(f"Compared {report.compared}: {counts}. Reads asked for: {report.repairs_asked}.")
    if report.not_looked_up:
        typer.echo(f"{report.not_looked_up} rows that Stripe's list lacks were not looked up; run it again.")
