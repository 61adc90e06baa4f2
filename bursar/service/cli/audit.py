"""`bursar audit`: every credit account recomputed from its entries; and letting a user be charged again (CR-4)."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from bursar.billing.values import as_dict
from bursar.db import credit_audit
from bursar.db.clock import real_now
from bursar.db.connections import Pool
from bursar.service.checks.auditing import Auditing, AuditReport
from bursar.service.cli.errors import CommandFailed
from bursar.service.cli.parked import AsJson, as_json, ask
from bursar.service.cli.parked_actions import Actor, Reason, signature_of
from bursar.service.processes.foundation import built
from bursar.service.settings import Settings, load_catalogue, load_settings

group = typer.Typer(help="Credit accounts against their entries.", invoke_without_command=True, rich_markup_mode=None)

User = Annotated[str, typer.Argument(metavar="USER", help="The product's id of the user.")]


@group.callback()
def audit(context: typer.Context, *, json: AsJson = False) -> None:
    """Recompute every credit account from its entries. Charges of users whose counters do not fit are stopped."""
    if context.invoked_subcommand:
        return
    settings = load_settings(Settings)
    report, stopped = ask(lambda pool: _run(pool, settings))
    mismatches = [as_dict(one) for one in report.mismatches]
    if json:
        typer.echo(as_json({**report.counts(), "mismatches": mismatches, "charges_stopped": stopped}))
    else:
        _print(mismatches)
        typer.echo(f"Audited {report.audited} accounts; charges are stopped for {len(stopped)} users.")
    if report.mismatches:
        raise CommandFailed(f"The counters of {len(report.mismatches)} accounts do not fit their entries.")


@group.command()
def clear(user: User, *, reason: Reason, actor: Actor = None, json: AsJson = False) -> None:
    """Let a user be charged again whose counters did not fit; a second time does nothing."""
    signature = signature_of(actor, reason)

    async def run(pool: Pool) -> bool:
        async with pool.acquire() as connection:
            return await credit_audit.clear(connection, user, signature, real_now())

    cleared = ask(run)
    said = f"Charges of {user} are made again." if cleared else f"Nothing stops the charges of {user}."
    typer.echo(as_json({"user_id": user, "cleared": cleared}) if json else said)


async def _run(pool: Pool, settings: Settings) -> tuple[AuditReport, list[str]]:
    catalogue = load_catalogue(settings.bursar_catalogue, settings.prices)
    async with pool.acquire() as connection:
        total = await credit_audit.count_accounts(connection)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        auditing = bar.add_task("Auditing", total=total)

        async def so_far(number: int) -> None:
            bar.update(auditing, completed=number)

        report = await Auditing(built(settings, catalogue, pool).decider).everything(so_far)
    async with pool.acquire() as connection:
        return report, [one.user_id for one in await credit_audit.open_mismatches(connection)]


def _print(mismatches: list[dict[str, Any]]) -> None:
    if not mismatches:
        return
    table = Table("user", "acquired too much (microdollars)", "used too much (microdollars)")
    for one in mismatches:
        table.add_row(*map(str, one.values()))
    Console(highlight=False, markup=False).print(table)
