"""What an event costs among 10,000,000 rows, beside among 10,000.

Each user has nine: an account, a subscription, an instance, the credit account with two entries, a handled message, a
log entry and a step that is done.
A round decides paid invoices of users drawn at random, in full batches one after the other, in each database in turn.
There is no broker in it. The database shares this machine.
"""

import argparse
import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.events import PERIOD_SECONDS, PRICE_ID, made_events
from bench.filling import FILLS, drop_indexes, name_users
from bench.peers.events import Event
from bench.peers.queues import PARTITIONS
from bench.processes import cpu_seconds
from bench.throughput import fresh_database
from bursar.billing.catalogue import Catalogue, EarlybirdTerms, KiloclawTerms, Prices
from bursar.billing.values import Value
from bursar.db.batches import MAX_ITEMS
from bursar.db.clock import MachineClock
from bursar.db.connections import open_pool
from bursar.db.decide import Limits
from bursar.db.items import OutcomeState
from bursar.handlers.messages import STRIPE, ReceivedMessage, item_of
from bursar.service.deciding.decider import Decider
from bursar.service.demo.generator import BEGINS_AT
from bursar.service.servers import running_servers

RESULTS = Path(__file__).parent / "results" / "rows.json"
SIZES = ("small", "large")
MEASURED = ("elapsed", "worker CPU", "database CPU")  # microseconds per event
MICROSECONDS = 1_000_000
CATALOGUE = Catalogue(
    kiloclaw=KiloclawTerms(earlybird=EarlybirdTerms(access_until=datetime(2026, 9, 26, tzinfo=UTC))),
    prices=Prices(standard=("price_standard",), commit=(PRICE_ID,)),
)

Costs = tuple[float, ...]

console = Console()


class Grown(Value):
    """A filled database, its decider, the process that serves it, and the events to come."""

    users: int
    decider: Decider
    served_by: int
    events: Iterator[Event]


def main() -> None:
    """Measure both and print them side by side."""
    options = _options()
    with running_servers("bench-rows", durable=True) as servers:
        costs = asyncio.run(measure_all(servers.database_url, options))
    told = report(costs, options)
    _print(told)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--large", type=int, default=1_111_112, help="users, of nine rows each; 10,000,000 take about 21 GB"
    )
    parser.add_argument("--small", type=int, default=1_111, help="users")
    parser.add_argument("--batches", type=int, default=2, help=f"of {MAX_ITEMS} events, in a round")
    parser.add_argument(
        "--rounds",
        type=int,
        default=12,
        help="of both in turn, after two that do not count; more make the few users' ledgers long",
    )
    return parser.parse_args()


async def measure_all(database_url: str, options: argparse.Namespace) -> dict[str, list[Costs]]:
    """The costs of the rounds. In turn, and each first in every other: a machine that slows down is slower for both."""
    costs: dict[str, list[Costs]] = {size: [] for size in SIZES}
    events = (options.rounds + 2) * options.batches * MAX_ITEMS
    async with AsyncExitStack() as stack:
        grown = {
            size: await stack.enter_async_context(_grown(database_url, getattr(options, size), events))
            for size in SIZES
        }
        for number in range(-1, options.rounds + 1):
            for size in sorted(grown, reverse=bool(number % 2)):
                one = await _round(grown[size], options.batches)
                costs[size] += [one] if number > 0 else []
                shown = ", ".join(f"{name} {value:.0f}" for name, value in zip(MEASURED, one, strict=True))
                console.print(f"round {number}, {grown[size].users:,} users: {shown}")
    return costs


async def _round(grown: Grown, batches: int) -> Costs:
    """Microseconds per event, as `MEASURED` names them."""
    began, began_cpu, served = time.perf_counter(), time.process_time(), cpu_seconds([grown.served_by])
    for _ in range(batches):
        await _decide(grown.decider, list(islice(grown.events, MAX_ITEMS)))
    seconds = (
        time.perf_counter() - began,
        time.process_time() - began_cpu,
        cpu_seconds([grown.served_by]) - served,
    )
    return tuple(one * MICROSECONDS / (batches * MAX_ITEMS) for one in seconds)


async def _decide(decider: Decider, events: Sequence[Event]) -> None:
    messages = [ReceivedMessage(event.id, f"{STRIPE}invoice.paid", event.account, event.body) for event in events]
    outcomes = await decider.decide([item_of(message, message.account, CATALOGUE) for message in messages])
    wrong = [outcome for outcome in outcomes if outcome.state is not OutcomeState.APPLIED]
    if wrong:
        raise SystemExit(f"{len(wrong)} events were not applied: {wrong[0].error!r}")


@asynccontextmanager
async def _grown(database_url: str, users: int, events: int) -> AsyncIterator[Grown]:
    async with fresh_database(database_url) as address:
        await _fill(address, users)
        pool = await open_pool(address, max_size=1, name="bench")
        try:
            async with pool.acquire() as connection:
                served_by = connection.get_server_pid()
            decider = Decider(pool, MachineClock(), Limits(PARTITIONS, users))
            yield Grown(users, decider, served_by, made_events(users, events, seed=1))
        finally:
            await pool.close()


async def _fill(address: str, users: int) -> None:
    connection = await asyncpg.connect(address)
    # Neither triggers nor foreign keys: what is written is whole, and would take hours otherwise.
    await connection.execute("SET session_replication_role = replica")
    await connection.execute("SET maintenance_work_mem = '1GB'")
    await name_users(connection, users, BEGINS_AT, BEGINS_AT + timedelta(seconds=PERIOD_SECONDS))
    indexes = await drop_indexes(connection)
    statements = [*FILLS.values(), *indexes, "VACUUM ANALYZE", "CHECKPOINT"]
    for statement in track(statements, f"filling for {users:,} users", console=console):
        await connection.execute(statement)
    await connection.close()


def report(costs: Mapping[str, Sequence[Costs]], options: argparse.Namespace) -> dict[str, Any]:
    """Every figure, the medians, and how many times as much an event costs among the many."""
    columns = {size: dict(zip(MEASURED, zip(*rounds, strict=True), strict=True)) for size, rounds in costs.items()}
    medians = {size: {one: median(took[one]) for one in MEASURED} for size, took in columns.items()}
    return {
        "users": {size: getattr(options, size) for size in SIZES},
        "events_per_round": options.batches * MAX_ITEMS,
        "cores": os.cpu_count(),
        "microseconds_per_event": {
            size: {one: [round(value) for value in took[one]] for one in MEASURED} for size, took in columns.items()
        },
        "median": {size: {one: round(value) for one, value in took.items()} for size, took in medians.items()},
        "ratio": {
            one: round(took / small, 2) if (small := medians["small"][one]) else None
            for one, took in medians["large"].items()
        },
    }


def _print(told: Mapping[str, Any]) -> None:
    users = told["users"]
    table = Table(title="Microseconds per event: median of the rounds")
    for column in ("", f"{users['small']:,} users", f"{users['large']:,} users", "times"):
        table.add_column(column, justify="right" if column else "left")
    for one in MEASURED:
        small, large = (f"{told['median'][size][one]:,}" for size in SIZES)
        table.add_row(one, small, large, str(told["ratio"][one]))
    console.print(table)


if __name__ == "__main__":
    main()
