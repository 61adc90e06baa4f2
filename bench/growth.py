"""What an event costs among 10,000,000 rows, beside among 10,000: to Bursar, and to the job's SQL in batches alone.

Each user has nine: an account, a subscription, an instance, the credit account with two entries, a handled message, a
log entry and a step that is done.
A round decides paid invoices of users drawn at random, in full batches, batch by batch in each database in turn.
No user pays twice: before that the tables are filled anew, so that few users' events ask for the same work as those of
many.
PostgreSQL has a quarter of the memory for its buffers, as its manual advises, and the tables are read into them first,
as they are where it has run for a while. There is no broker in it. The database shares this machine.
"""

import argparse
import asyncio
import json
import os
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, TypeAlias

import asyncpg
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.events import PERIOD_SECONDS, PRICE_ID, events_of
from bench.filling import FILLS, drop_indexes, empty, name_users, pages_asked_for, prewarm, shared_buffers_mb
from bench.peers.events import Event
from bench.peers.queues import PARTITIONS
from bench.peers.sql_batches import handle_batch
from bench.processes import cpu_seconds
from bench.throughput import fresh_database
from bursar.billing.catalogue import Catalogue, EarlybirdTerms, KiloclawTerms, Prices
from bursar.billing.values import Value
from bursar.db.batches import MAX_ITEMS
from bursar.db.clock import MachineClock
from bursar.db.connections import Connection, open_connection, open_pool
from bursar.db.decide import Limits
from bursar.db.items import OutcomeState
from bursar.handlers.messages import STRIPE, ReceivedMessage, item_of
from bursar.service.deciding.decider import Decider
from bursar.service.demo.generator import BEGINS_AT
from bursar.service.processes.lifetime import collect_rarely
from bursar.service.servers import running_servers

RESULTS = Path(__file__).parent / "results" / "rows.json"
SIZES = ("small", "large")
BURSAR, SQL_ALONE = WAYS = ("Bursar", "the SQL alone")
MEASURED = ("elapsed", "worker CPU", "database CPU", "pages")  # microseconds per event; pages asked for
MICROSECONDS = 1_000_000
MEGABYTE = 2**20
# Plans are made anew after a filling, and nobody's first event is to pay for that.
WARM_UP_EVENTS = 64
CATALOGUE = Catalogue(
    kiloclaw=KiloclawTerms(earlybird=EarlybirdTerms(access_until=datetime(2026, 9, 26, tzinfo=UTC))),
    prices=Prices(standard=("price_standard",), commit=(PRICE_ID,)),
)

Costs = tuple[float, ...]
Sizes: TypeAlias = dict[str, "Grown"]

console = Console()


class Measured(Value):
    """The costs of each round by way and size, and how large the databases were when the first began."""

    costs: dict[str, dict[str, list[Costs]]]
    database_mb: dict[str, int]
    shared_buffers_mb: int


class Used(Value):
    """Of PostgreSQL's, by one way so far: seconds of a processor, and pages asked for, wherever they were found."""

    database_seconds: float
    pages: int


class Way(Value):
    """One way to handle a batch of events, in one session of PostgreSQL's, which the process `served_by` serves."""

    handle: Callable[[Sequence[Event]], Awaitable[None]]
    session: Callable[[], AbstractAsyncContextManager[Connection]]
    served_by: int


class Filling(Value):
    """Which database holds how many users, who have paid so many times each."""

    address: str
    users: int
    payments: int


class Grown:
    """A filled database and the ways in it. Each of its users has one event, then all is filled anew."""

    def __init__(self, filling: Filling, ways: Mapping[str, Way], size_mb: int) -> None:
        self.users = filling.users
        self.ways = ways
        self.size_mb = size_mb
        self._filling = filling
        self._draw_users()

    async def begin_round(self, events: int) -> None:
        """See to it that so many users are left who have had none."""
        if self._left < events:
            await _fill(self._filling)
            self._draw_users()

    def take(self, events: int) -> list[Event]:
        """The next events; ValueError where not so many users are left."""
        if events > self._left:
            raise ValueError("each user has one event only")
        self._left -= events
        return list(islice(self._events, events))

    def _draw_users(self) -> None:
        in_turn = array("l", range(self.users))  # no list: the worker's garbage collector would look at a million users
        Random(1).shuffle(in_turn)  # noqa: S311 - a load to be repeated, not a secret
        self._events, self._left = events_of(in_turn), self.users


def main() -> None:
    """Measure both and print them side by side."""
    options = _options()
    collect_rarely()  # as a worker does
    with running_servers(
        "bench-rows", durable=True, with_rabbitmq=False, shared_buffers_mb=options.shared_buffers_mb
    ) as servers:
        measured = asyncio.run(measure_all(servers.database_url, options))
    told = report(measured, options)
    _print(told)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--large", type=int, default=1_111_112, help="users, of nine rows each; 10,000,000 take about 21 GB"
    )
    parser.add_argument("--small", type=int, default=1_111, help="users")
    for size in SIZES:
        parser.add_argument(
            f"--{size}-payments",
            type=int,
            default=1,
            help="that each of these users has made before; two entries of the ledger each",
        )
    parser.add_argument("--batches", type=int, default=4, help=f"of {MAX_ITEMS} events, in a round")
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument(
        "--warm-up-rounds",
        type=int,
        default=12,
        help="not counted: soon after a checkpoint whole pages go to PostgreSQL's log, more of them among many rows",
    )
    parser.add_argument(
        "--shared-buffers-mb",
        type=int,
        default=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MEGABYTE // 4,
        help="PostgreSQL's own memory; a quarter of the machine's, unless said. Databases that do not fit in are "
        "measured as they come",
    )
    options = parser.parse_args()
    if min(options.batches, options.rounds, options.small_payments, options.large_payments) < 1:
        parser.error("rounds, batches and payments are 1 at least")
    if min(options.small, options.large) < (least := _events_of_round(options.batches)):
        parser.error(f"a round of {options.batches} batches takes {least} users")
    return options


def _events_of_round(batches: int) -> int:
    return WARM_UP_EVENTS + batches * MAX_ITEMS


async def measure_all(database_url: str, options: argparse.Namespace) -> Measured:
    """The costs of the rounds, and how large the databases are."""
    costs: dict[str, dict[str, list[Costs]]] = {way: {size: [] for size in SIZES} for way in WAYS}
    async with AsyncExitStack() as stack:
        grown = {size: await stack.enter_async_context(_grown(database_url, size, options)) for size in SIZES}
        buffers_mb = await _warm(grown)
        for number in range(1 - options.warm_up_rounds, options.rounds + 1):
            for way in WAYS:
                for size, cost in (await _round(grown, way, options.batches)).items():
                    costs[way][size] += [cost] if number > 0 else []
                    shown = ", ".join(f"{name} {value:.0f}" for name, value in zip(MEASURED, cost, strict=True))
                    console.print(f"round {number}, {way}, {grown[size].users:,} users: {shown}")
    return Measured(costs, {size: one.size_mb for size, one in grown.items()}, buffers_mb)


async def _warm(grown: Sizes) -> int:
    """Read the tables into PostgreSQL's buffers, if they fit, once in each session: its own view of these fills
    likewise. Returns the buffers' megabytes.
    """
    ways = [way for one in grown.values() for way in one.ways.values()]
    async with ways[0].session() as session:
        buffers_mb = await shared_buffers_mb(session)
    if (size_mb := sum(one.size_mb for one in grown.values())) >= buffers_mb:
        console.print(f"the databases take {size_mb:,} MB, the buffers {buffers_mb:,}: they are not read into these")
        return buffers_mb
    for way in ways:
        async with way.session() as session:
            await prewarm(session)
    return buffers_mb


async def _round(grown: Sizes, way: str, batches: int) -> dict[str, Costs]:
    """The costs of an event in each, as `MEASURED` names them. In turn batch by batch: a shared machine is another one
    a second later.
    """
    ways = {size: one.ways[way] for size, one in grown.items()}
    for size, one in grown.items():
        await one.begin_round(_events_of_round(batches))
        await ways[size].handle(one.take(WARM_UP_EVENTS))
    before = {size: await _used(one) for size, one in ways.items()}
    took = dict.fromkeys(grown, (0.0, 0.0))
    for number in range(batches):
        for size in sorted(grown, reverse=bool(number % 2)):
            events = grown[size].take(MAX_ITEMS)
            began, began_cpu = time.perf_counter(), time.process_time()
            await ways[size].handle(events)
            elapsed, cpu = took[size]
            took[size] = (elapsed + time.perf_counter() - began, cpu + time.process_time() - began_cpu)
    after = {size: await _used(one) for size, one in ways.items()}
    return {size: _per_event(batches * MAX_ITEMS, took[size], before[size], after[size]) for size in grown}


def _per_event(events: int, took: tuple[float, float], before: Used, after: Used) -> Costs:
    seconds = (*took, after.database_seconds - before.database_seconds)
    return (*(one * MICROSECONDS / events for one in seconds), (after.pages - before.pages) / events)


async def _used(way: Way) -> Used:
    async with way.session() as session:
        return Used(cpu_seconds([way.served_by]), await pages_asked_for(session))


async def _decide(decider: Decider, events: Sequence[Event]) -> None:
    messages = [ReceivedMessage(event.id, f"{STRIPE}invoice.paid", event.account, event.body) for event in events]
    outcomes = await decider.decide([item_of(message, message.account, CATALOGUE) for message in messages])
    wrong = [outcome for outcome in outcomes if outcome.state is not OutcomeState.APPLIED]
    if wrong:
        raise SystemExit(f"{len(wrong)} events were not applied: {wrong[0].error!r}")


@asynccontextmanager
async def _grown(database_url: str, size: str, options: argparse.Namespace) -> AsyncIterator[Grown]:
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(fresh_database(database_url))
        filling = Filling(address, getattr(options, size), getattr(options, f"{size}_payments"))
        await _fill(filling, "CHECKPOINT")
        os.sync()  # what the filling left for the disk is not to be written beside the rounds
        ways = {BURSAR: await _bursar(stack, filling), SQL_ALONE: await _sql_alone(stack, filling)}
        yield Grown(filling, ways, await _size_mb(address))


async def _bursar(stack: AsyncExitStack, filling: Filling) -> Way:
    pool = await open_pool(filling.address, max_size=1, name="bench")
    stack.push_async_callback(pool.close)
    async with pool.acquire() as connection:
        served_by = connection.get_server_pid()
    decider = Decider(pool, MachineClock(), Limits(PARTITIONS, filling.users))
    return Way(partial(_decide, decider), pool.acquire, served_by)


async def _sql_alone(stack: AsyncExitStack, filling: Filling) -> Way:
    connection = await open_connection(filling.address, name="bench")
    stack.push_async_callback(connection.close)
    return Way(partial(handle_batch, connection), partial(nullcontext, connection), connection.get_server_pid())


async def _size_mb(address: str) -> int:
    connection = await open_connection(address, name="bench")
    size: int = await connection.fetchval("SELECT pg_database_size(current_database()) / 1048576")
    await connection.close()
    return size


async def _fill(filling: Filling, *then: str) -> None:
    """Fill the tables, which lose what they had."""
    connection, users = await asyncpg.connect(filling.address), filling.users
    # Neither triggers nor foreign keys: what is written is whole, and would take hours otherwise.
    await connection.execute("SET session_replication_role = replica")
    await connection.execute("SET maintenance_work_mem = '1GB'")
    await empty(connection)
    await name_users(connection, users, BEGINS_AT, BEGINS_AT + timedelta(seconds=PERIOD_SECONDS), filling.payments)
    indexes = await drop_indexes(connection)
    statements = [*FILLS.values(), *indexes, "VACUUM ANALYZE", *then]
    for statement in track(
        statements, f"filling for {users:,} users", console=console, transient=True, disable=not console.is_terminal
    ):
        await connection.execute(statement)
    await connection.close()


def report(measured: Measured, options: argparse.Namespace) -> dict[str, Any]:
    """Every figure, the medians, and how many times as much an event costs among the many."""
    columns = {
        way: {size: dict(zip(MEASURED, zip(*rounds, strict=True), strict=True)) for size, rounds in sizes.items()}
        for way, sizes in measured.costs.items()
    }
    medians = {
        way: {size: {one: round(median(took[one])) for one in MEASURED} for size, took in sizes.items()}
        for way, sizes in columns.items()
    }
    return {
        "users": {size: getattr(options, size) for size in SIZES},
        "payments_before": {size: getattr(options, f"{size}_payments") for size in SIZES},
        "events_per_round": options.batches * MAX_ITEMS,
        "cores": os.cpu_count(),
        "shared_buffers_mb": measured.shared_buffers_mb,
        "database_mb": measured.database_mb,
        "per_event": {
            way: {
                size: {one: [round(value) for value in values] for one, values in took.items()}
                for size, took in sizes.items()
            }
            for way, sizes in columns.items()
        },
        "median": medians,
        "ratio": {
            way: {
                one: round(took / small, 2) if (small := sizes["small"][one]) else None
                for one, took in sizes["large"].items()
            }
            for way, sizes in medians.items()
        },
    }


def _print(told: Mapping[str, Any]) -> None:
    users, paid = told["users"], told["payments_before"]
    title = f"Microseconds and pages per event, medians; PostgreSQL has {told['shared_buffers_mb']:,} MB of buffers"
    table = Table(title=title)
    table.add_column("", no_wrap=True)
    for column in (*(f"{users[size]:,} users, {paid[size]} paid" for size in SIZES), "times"):
        table.add_column(column, justify="right")
    for way, ratios in told["ratio"].items():
        for one, ratio in ratios.items():
            small, large = (f"{told['median'][way][size][one]:,}" for size in SIZES)
            table.add_row(f"{way}: {one}", small, large, str(ratio))
    console.print(table)


if __name__ == "__main__":
    main()
