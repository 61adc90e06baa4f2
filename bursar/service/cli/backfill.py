"""`bursar backfill`: events of Stripe's that we never got, found and fed in (MS-9)."""

import asyncio
import json as jsons
from datetime import datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from bursar.billing.values import Value, as_dict
from bursar.db.clock import real_now
from bursar.service.broker.publisher import open_publisher
from bursar.service.checks.missed_events import KEPT_BY_STRIPE, Fed, Missed, MissedEvents
from bursar.service.cli.errors import CommandFailed
from bursar.service.cli.fields import instant
from bursar.service.gateways.stripe import Priority
from bursar.service.processes.foundation import foundation
from bursar.service.processes.outside import opened_stripe
from bursar.service.settings import Settings, load_settings

CONNECTIONS = 2


class Backfilled(Value):
    """What was found, and what was fed in unless the run was dry."""

    missed: Missed
    fed: Fed | None


def backfill(
    since: Annotated[
        datetime,
        typer.Option(
            parser=instant,
            metavar="INSTANT",
            help="From when on, ISO 8601, UTC without an offset; at most 30 days ago.",
        ),
    ],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is missing, and feed nothing in.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Feed in the events that Stripe has and we never got, the oldest first. Again does no harm."""
    _require_kept(since)
    done = asyncio.run(_run(load_settings(Settings), since, dry_run=dry_run))
    typer.echo(jsons.dumps(_fields(since, done), indent=2) if json else _as_text(since, done))
    if done.fed and done.missed.missing > len(done.missed.events):
        raise CommandFailed("More is missing than is fed in at once; run it again.")


def _require_kept(since: datetime) -> None:
    now = real_now()
    if since > now:
        raise typer.BadParameter("--since lies ahead")
    if since < now - KEPT_BY_STRIPE - timedelta(minutes=1):
        raise CommandFailed(
            f"Stripe keeps events for {KEPT_BY_STRIPE.days} days only; what is older is found by `bursar reconcile`."
        )


async def _run(settings: Settings, since: datetime, *, dry_run: bool) -> Backfilled:
    async with (
        foundation(settings, "backfill", connections=CONNECTIONS) as base,
        open_publisher(settings.amqp_url, settings.bursar_partitions) as publisher,
        opened_stripe(settings, base.metrics) as stripe,
    ):
        events = MissedEvents(stripe.at(Priority.SWEEP), base.decider, publisher)
        with _bar() as bar:
            looking = bar.add_task("Listing", total=None)

            async def on_page(listed: int) -> None:
                bar.update(looking, completed=listed)

            missed = await events.find(since, real_now(), on_page)
            if dry_run:
                return Backfilled(missed, None)
            feeding = bar.add_task("Feeding in", total=len(missed.events))

            async def on_event(number: int) -> None:
                bar.update(feeding, completed=number)

            return Backfilled(missed, await events.feed(missed.events, on_event))


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _fields(since: datetime, done: Backfilled) -> dict[str, object]:
    return {
        "since": since.isoformat(),
        "listed": done.missed.listed,
        "missing": done.missed.missing,
        "types": done.missed.types,
        "fed": as_dict(done.fed) if done.fed else None,
        "events": [str(event.get("id")) for event in done.missed.events],
    }


def _as_text(since: datetime, done: Backfilled) -> str:
    head = f"Stripe has {done.missed.listed} events since {since:%Y-%m-%d %H:%M:%S}Z; {done.missed.missing} never came."
    lines = [f"  {number} {name}" for name, number in done.missed.types.items()]
    if done.fed:
        lines.append(f"Fed in {done.fed.published}, parked {done.fed.parked}.")
    elif done.missed.events:
        lines.append("Nothing was fed in.")
    return "\n".join([head, *lines])
