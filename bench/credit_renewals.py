"""Renewal of 100,000 rows that are due at once, through one worker process, and what it costs the webhooks of others.

Webhooks of other users are published at a steady rate, first while nothing else is done, then while one tick of
`credit_renewal` works through every partition. A delay is from the publishing of a message until its transaction is
seen to be committed; the database is asked every 20 ms. Broker, database and worker share this machine.
"""

import argparse
import asyncio
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
from rich.console import Console

from bench.throughput import PARTITIONS, fresh_database, message_of, worker_environment
from bursar.db.batches import MAX_ITEMS
from bursar.handlers.messages import HANDLED_STRIPE_TYPES, ReceivedMessage
from bursar.service.broker.publisher import MessagePublisher, open_publisher
from bursar.service.demo.generator import generate_events
from bursar.service.demo.lives import Life, all_events
from bursar.service.processes.children import Child
from bursar.service.servers import Servers, running_servers

RESULTS = Path(__file__).parent / "results" / "credit_renewals.json"
SWEEP = "credit_renewal"
LOOK_SECONDS = 0.02
PATIENCE_SECONDS = 1_800.0
WARM_MESSAGES = 50  # that do not count: the worker is still taking its partitions
LEFT_DOLLARS = 75  # of $100, once the period is charged

console = Console()


@dataclass
class Webhooks:
    """What is on its way, by id, with the instant of its publishing; and the delays of what arrived, in seconds."""

    publisher: MessagePublisher
    connection: asyncpg.Connection
    waiting: Iterator[ReceivedMessage]
    on_the_way: dict[str, float] = field(default_factory=dict)
    delays: list[float] = field(default_factory=list)
    all_arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def publish(self, number: int, rate: float) -> None:
        """So many messages, at that rate."""
        for message in [next(self.waiting) for _ in range(number)]:
            self.all_arrived.clear()
            self.on_the_way[message.message_id] = time.perf_counter()
            await self.publisher.publish(message)
            await asyncio.sleep(1 / rate)

    async def publish_until(self, stop: asyncio.Event, rate: float) -> None:
        """Until told to stop."""
        while not stop.is_set():
            await self.publish(1, rate)

    async def watch(self, stop: asyncio.Event) -> None:
        """Note what arrived, until told to stop and nothing is on its way any more."""
        while not stop.is_set() or self.on_the_way:
            rows = await self.connection.fetch(
                "SELECT message_id FROM inbox WHERE message_id = ANY($1::text[])", list(self.on_the_way)
            )
            now = time.perf_counter()
            self.delays += [now - self.on_the_way.pop(row["message_id"]) for row in rows]
            if not self.on_the_way:
                self.all_arrived.set()
            await asyncio.sleep(LOOK_SECONDS)

    def taken(self) -> list[float]:
        """The delays since the last time."""
        delays, self.delays = sorted(self.delays), []
        return delays


def main() -> None:
    """Measure, print and keep the figures."""
    options = _options()
    with running_servers("bench-credit-renewals", durable=True) as servers:
        report = asyncio.run(_measure(servers, options))
    console.print_json(data=report)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="rows due")
    parser.add_argument("--rate", type=float, default=20.0, help="webhooks of others a second")
    parser.add_argument("--alone", type=int, default=200, help="webhooks while nothing else is done")
    parser.add_argument("--events", type=int, default=40_000, help="webhooks there are")
    return parser.parse_args()


async def _measure(servers: Servers, options: argparse.Namespace) -> dict[str, Any]:
    lives = generate_events(options.events // 10, options.events, seed=1)
    async with fresh_database(servers.database_url) as database_url:
        connection = await asyncpg.connect(database_url)
        console.print(f"filling {options.rows:,} rows")
        await _fill(connection, options.rows)
        environment = worker_environment(servers, database_url, lives, (MAX_ITEMS, 2))
        stop = asyncio.Event()
        worker = asyncio.create_task(Child(("worker",), environment, drain_seconds=5.0).run(stop))
        try:
            async with asyncio.timeout(PATIENCE_SECONDS), open_publisher(servers.amqp_url, PARTITIONS) as publisher:
                webhooks = Webhooks(publisher, await asyncpg.connect(database_url), _messages(lives))
                measuring = asyncio.create_task(_both(webhooks, connection, options))
                await asyncio.wait({measuring, worker}, return_when=asyncio.FIRST_COMPLETED)
                if not measuring.done():
                    measuring.cancel()
                    raise SystemExit("the worker ended; its last line says why")
                return await measuring
        finally:
            stop.set()
            await worker
            await connection.close()


async def _both(webhooks: Webhooks, connection: asyncpg.Connection, options: argparse.Namespace) -> dict[str, Any]:
    stop, swept = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(webhooks.watch(stop))
        await webhooks.publish(WARM_MESSAGES, options.rate)
        await webhooks.all_arrived.wait()
        webhooks.taken()
        await webhooks.publish(options.alone, options.rate)
        await webhooks.all_arrived.wait()
        alone = webhooks.taken()
        console.print("renewing")
        publishing = group.create_task(webhooks.publish_until(swept, options.rate))
        began = time.perf_counter()
        await webhooks.publisher.publish_tick(SWEEP, datetime.now(UTC))
        pages = await _finished(connection)
        seconds = time.perf_counter() - began
        swept.set()
        await publishing
        stop.set()
    await _check(connection, options.rows)
    figures = {"seconds": round(seconds, 1), "rows_per_second": round(options.rows / seconds), "partitions": pages}
    sides = {"webhooks_alone": _spread(alone), "webhooks_meanwhile": _spread(webhooks.taken())}
    return {"rows": options.rows, "cores": os.cpu_count(), "webhooks_per_second": options.rate, **figures, **sides}


async def _finished(connection: asyncpg.Connection) -> int:
    """Wait until every partition is done; how many those are."""
    done = 0
    while done < PARTITIONS:
        await asyncio.sleep(LOOK_SECONDS)
        done = await connection.fetchval("SELECT count(*) FROM tick_partitions WHERE state = 'done'")
    return int(done)


async def _check(connection: asyncpg.Connection, rows: int) -> None:
    """Each row is renewed once, and each balance is the sum of its entries."""
    renewed = await connection.fetchval(
        """
        SELECT count(*) FROM kiloclaw_subscriptions AS row JOIN credit_accounts AS account USING (user_id)
        WHERE row.payment_source = 'credits' AND row.status = 'active' AND row.credit_renewal_at > now()
            AND acquired_microdollars - used_microdollars = $1 AND acquired_microdollars - used_microdollars = (
                SELECT sum(amount_microdollars) FROM credit_transactions AS entry WHERE entry.user_id = row.user_id)
        """,
        LEFT_DOLLARS * 1_000_000,
    )
    if renewed != rows:
        raise SystemExit(f"{renewed} rows were renewed, not {rows}")


async def _fill(connection: asyncpg.Connection, rows: int) -> None:
    """Standard rows in all partitions, due for up to an hour, each with $100 and an instance."""
    await connection.execute(
        "INSERT INTO accounts (key, partition) SELECT 'user:u' || n, n % 32 FROM generate_series(1, $1::integer) AS n",
        rows,
    )
    await connection.execute(
        """
        INSERT INTO kiloclaw_instances
            (id, account_key, partition, created_at, desired_state, generation, done_generation, wanted_since, due_at)
        SELECT 'i' || n, 'user:u' || n, n % 32, now(), 'running', 1, 1, now(), now()
        FROM generate_series(1, $1::integer) AS n
        """,
        rows,
    )
    await connection.execute(
        """
        INSERT INTO kiloclaw_subscriptions (id, user_id, account_key, partition, version, created_at, instance_id, plan,
            status, payment_source, current_period_start, current_period_end, credit_renewal_at)
        SELECT gen_random_uuid(), 'u' || n, 'user:u' || n, n % 32, 1, now(), 'i' || n, 'standard', 'active', 'credits',
            due - interval '1 month', due, due
        FROM generate_series(1, $1::integer) AS n, LATERAL (SELECT now() - n % 3600 * interval '1 second' AS due) AS its
        """,
        rows,
    )
    await connection.execute(
        """
        INSERT INTO credit_transactions
            (user_id, kind, amount_microdollars, description, business_key, payment_id, cause, created_at)
        SELECT 'u' || n, 'deposit', 100000000, 'given', 'deposit:pi_' || n, 'pi_' || n, 'bench', now()
        FROM generate_series(1, $1::integer) AS n
        """,
        rows,
    )
    await connection.execute("VACUUM ANALYZE")


def _messages(lives: Sequence[Life]) -> Iterator[ReceivedMessage]:
    return (message_of(event) for event in all_events(lives) if event["type"] in HANDLED_STRIPE_TYPES)


def _spread(delays: Sequence[float]) -> Mapping[str, Any]:
    """In milliseconds."""
    at = {name: delays[min(int(len(delays) * share), len(delays) - 1)] for name, share in SHARES.items()}
    return {"count": len(delays)} | {f"{name}_ms": round(value * 1_000) for name, value in at.items()}


SHARES = {"median": 0.5, "p95": 0.95, "p99": 0.99, "longest": 1.0}

if __name__ == "__main__":
    main()
