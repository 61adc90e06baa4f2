"""Events per second through one worker process, end to end, in batches and with a transaction per message.

The queues are filled first; then the worker starts, and the clock runs from the first committed message to the last:
what was received and read by then favours the batches a little. `bench.side_by_side` has the better clock.
Broker, database and worker share this machine.
"""

import argparse
import asyncio
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import orjson
from rich.console import Console
from rich.table import Table

from bursar.db.batches import BATCHES_AT_ONCE, MAX_ITEMS
from bursar.db.migrate import migrate
from bursar.handlers.messages import HANDLED_STRIPE_TYPES, STRIPE, ReceivedMessage, account_of_event
from bursar.service.broker.publisher import MessagePublisher, open_publisher
from bursar.service.demo.generator import generate_events
from bursar.service.demo.lives import Life, all_events, price_environment
from bursar.service.processes.children import Child
from bursar.service.processes.development import development_settings
from bursar.service.servers import Servers, running_servers

RESULTS = Path(__file__).parent / "results" / "throughput.json"
PARTITIONS = 32
PUBLISHING_AT_ONCE = 256
POLL_SECONDS = 0.05
PATIENCE_SECONDS = 120.0
MODES = {
    "batches": (MAX_ITEMS, BATCHES_AT_ONCE),
    "transaction_per_message": (1, 8),
}  # messages in a transaction, and how many at once

console = Console()


def main() -> None:
    """Measure both ways and print them side by side."""
    options = _options()
    lives = generate_events(options.users, options.events, seed=options.seed)
    with running_servers("bench", durable=True) as servers:
        rates = asyncio.run(_measure_all(servers, lives, options.rounds))
    _print(rates)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(_report(rates, options), indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--users", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3, help="of both ways in turn")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


async def _measure_all(servers: Servers, lives: Sequence[Life], rounds: int) -> dict[str, list[float]]:
    """In turn, so that a machine that becomes slower is slower for both."""
    rates: dict[str, list[float]] = {mode: [] for mode in MODES}
    for number in range(rounds):
        for mode, sizes in MODES.items():
            rate = await _measure(servers, lives, sizes)
            rates[mode].append(rate)
            console.print(f"round {number + 1}, {mode}: {rate:,.0f} events/s")
    return rates


async def _measure(servers: Servers, lives: Sequence[Life], sizes: tuple[int, int]) -> float:
    """Events per second of a worker that takes at most so many messages in a transaction."""
    async with fresh_database(servers.database_url) as database_url:
        environment = worker_environment(servers, database_url, lives, sizes)
        async with open_publisher(servers.amqp_url, PARTITIONS) as publisher:
            published = await _publish(publisher, lives)
        stop = asyncio.Event()
        worker = asyncio.create_task(Child(("worker",), environment, drain_seconds=5.0).run(stop))
        try:
            return await _rate_until(database_url, published, worker)
        finally:
            stop.set()
            await worker


async def _publish(publisher: MessagePublisher, lives: Sequence[Life]) -> int:
    """Fill the queues; returns how many messages."""
    messages = [message_of(event) for event in all_events(lives) if event["type"] in HANDLED_STRIPE_TYPES]
    waiting = iter(messages)

    async def courier() -> None:
        for message in waiting:
            await publisher.publish(message)

    await asyncio.gather(*(courier() for _ in range(PUBLISHING_AT_ONCE)))
    return len(messages)


def message_of(event: Mapping[str, Any]) -> ReceivedMessage:
    """An event as the relay publishes it."""
    account = account_of_event(event)
    assert account, "every generated event names its user"
    return ReceivedMessage(event["id"], STRIPE + event["type"], account, orjson.dumps(event))


async def _rate_until(database_url: str, expected: int, worker: asyncio.Task[None]) -> float:
    """Messages per second between the first sight of committed ones and the last."""
    connection = await asyncpg.connect(database_url)
    began: tuple[float, int] | None = None
    deadline = time.monotonic() + PATIENCE_SECONDS
    try:
        while time.monotonic() < deadline and not worker.done():
            done = await connection.fetchval("SELECT count(*) FROM inbox")
            now = time.perf_counter()
            if done and began is None:
                began = (now, done)
            if began and done == expected:
                return float((done - began[1]) / (now - began[0]))
            await asyncio.sleep(POLL_SECONDS)
    finally:
        await connection.close()
    raise SystemExit(f"the worker did not handle {expected} events within {PATIENCE_SECONDS:.0f} s")


@asynccontextmanager
async def fresh_database(database_url: str) -> AsyncIterator[str]:
    name = f"bench_{secrets.token_hex(4)}"
    address = database_url.rpartition("/")[0] + "/" + name
    server = await asyncpg.connect(database_url)
    try:
        await server.execute(f"CREATE DATABASE {name}")
        await migrate(address)
        yield address
    finally:
        await server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await server.close()


def worker_environment(
    servers: Servers, database_url: str, lives: Sequence[Life], sizes: tuple[int, int]
) -> dict[str, str]:
    """The settings of a worker that takes at most so many messages in a transaction, and so many of these at once."""
    own = {
        "DATABASE_URL": database_url,
        "AMQP_URL": servers.amqp_url,
        "BURSAR_MAX_BATCH": str(sizes[0]),
        "BURSAR_BATCHES_AT_ONCE": str(sizes[1]),
        "BURSAR_HEALTH_PORT": "0",
        "BURSAR_LOG_LEVEL": "warning",
        **price_environment(lives),
    }
    return {**os.environ, **development_settings(own, {}), **own}


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _report(rates: Mapping[str, Sequence[float]], options: argparse.Namespace) -> dict[str, Any]:
    medians = {mode: _median(values) for mode, values in rates.items()}
    return {
        "events": options.events,
        "users": options.users,
        "cores": os.cpu_count(),
        "events_per_second": {mode: [round(value) for value in values] for mode, values in rates.items()},
        "median": {mode: round(value) for mode, value in medians.items()},
        "ratio": round(medians["batches"] / medians["transaction_per_message"], 2),
    }


def _print(rates: Mapping[str, Sequence[float]]) -> None:
    table = Table(title="Events per second through one worker process")
    for column in ("way", "median", "lowest", "highest", "times"):
        table.add_column(column, justify="left" if column == "way" else "right")
    single = _median(rates["transaction_per_message"])
    for mode, values in rates.items():
        middle = _median(values)
        table.add_row(
            mode.replace("_", " "),
            f"{middle:,.0f}",
            f"{min(values):,.0f}",
            f"{max(values):,.0f}",
            f"{middle / single:.1f}",
        )
    console.print(table)


if __name__ == "__main__":
    main()
