"""`bursar tick`: a tick from outside the scheduler (MS-8)."""

import asyncio
import json as jsons
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from tenacity import AsyncRetrying, RetryError, retry_if_result, stop_after_delay, wait_fixed

from bursar.db.clock import MachineClock, TestClock, real_now
from bursar.db.connections import Connection, open_pool
from bursar.db.ticks import Tick, TickStatus, insert_tick, status_of
from bursar.service.broker.publisher import open_publisher
from bursar.service.broker.topology import check_partitions
from bursar.service.cli.dry_run import foresee_sweep
from bursar.service.cli.errors import CommandFailed
from bursar.service.cli.fields import instant
from bursar.service.observability.tracing import new_traceparent
from bursar.service.processes.starting import require_migrated, wait_for_broker, wait_for_database
from bursar.service.settings import BrokerSettings, load_settings
from bursar.sweeps.table import PLANS

SERVERS_SECONDS = 3.0
DONE_SECONDS = 3_600.0
POLL_SECONDS = 0.2


def _sweep(name: str) -> str:
    if name not in PLANS:
        raise typer.BadParameter(f"there is no such sweep; choose one of {', '.join(PLANS)}")
    return name


def tick(
    sweep: Annotated[str, typer.Argument(callback=_sweep, help=f"One of {', '.join(PLANS)}.")],
    at: Annotated[
        datetime | None,
        typer.Option(
            parser=instant, metavar="INSTANT", help="Due instant, ISO 8601, UTC without an offset; default: now."
        ),
    ] = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what it would cause (with --at: then), and change nothing.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is done, at most an hour.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run a sweep, or `hourly` for all of them. The same sweep and instant a second time does nothing."""
    if dry_run and wait:
        raise typer.BadParameter("a dry run has nothing to wait for: --dry-run without --wait")
    settings = load_settings(BrokerSettings)
    if dry_run:
        foresee_sweep(settings, sweep, at, json=json)
        return
    status = asyncio.run(_run(settings, sweep, at, wait=wait))
    fields = {
        "id": status.tick.id,
        "sweep": status.tick.sweep,
        "due_at": status.tick.due_at.isoformat(),
        "state": status.state,
        "counts": status.counts,
    }
    typer.echo(jsons.dumps(fields, indent=2) if json else _as_text(fields))


async def _run(settings: BrokerSettings, sweep: str, at: datetime | None, *, wait: bool) -> TickStatus:
    await wait_for_database(settings.database_url, SERVERS_SECONDS)
    await wait_for_broker(settings.amqp_url, SERVERS_SECONDS)
    async with await open_pool(settings.database_url, max_size=1, name="bursar tick") as pool:
        await require_migrated(pool)
        async with pool.acquire() as connection:
            await check_partitions(connection, settings.bursar_partitions)
            made = await insert_tick(connection, sweep, at or await _now(settings, connection), real_now())
            await _publish(settings, made)
            return await (_done(connection, made) if wait else _status(connection, made))


async def _publish(settings: BrokerSettings, made: Tick) -> None:
    async with open_publisher(settings.amqp_url, settings.bursar_partitions) as publisher:
        await publisher.publish_tick(made.sweep, made.due_at, new_traceparent())


async def _now(settings: BrokerSettings, connection: Connection) -> datetime:
    clock = TestClock() if settings.bursar_test_clock else MachineClock()
    return (await clock.situation(connection)).now


async def _status(connection: Connection, made: Tick) -> TickStatus:
    status = await status_of(connection, made.id)
    assert status, "a tick that was just made is there"
    return status


async def _done(connection: Connection, made: Tick) -> TickStatus:
    retrying = AsyncRetrying(
        retry=retry_if_result(lambda status: status.state == "running"),
        wait=wait_fixed(POLL_SECONDS),
        stop=stop_after_delay(DONE_SECONDS),
    )
    with Console(stderr=True).status(f"Waiting for {made.sweep}"):
        try:
            status: TickStatus = await retrying(_status, connection, made)
        except RetryError:
            raise CommandFailed(f"Tick {made.id} was not done within {DONE_SECONDS:.0f} s; it goes on.") from None
    return status


def _as_text(fields: dict[str, Any]) -> str:
    head = f"Tick {fields['id']}: {fields['sweep']} due {fields['due_at']}, {fields['state']}"
    lines = [
        f"  {sweep}: " + ", ".join(f"{name} {number}" for name, number in numbers.items())
        for sweep, numbers in fields["counts"].items()
    ]
    return "\n".join([head, *lines])
