"""What a sweep costs where 1,000 of 1,000,000 rows are due, beside 1,000 of 10,000 (KC-80).

A round sweeps ended trials in each database in turn: found, decided, saved, 32 partitions one after the other. Then
comes a whole hourly tick with nothing due. Between the rounds the rows are set back. The database shares this machine.
"""

import argparse
import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg
import orjson
from rich.console import Console
from rich.table import Table

from bench.throughput import fresh_database
from bursar.billing.catalogue import Catalogue, EarlybirdTerms, KiloclawTerms, Prices
from bursar.billing.values import Value
from bursar.db.connections import Connection, open_pool
from bursar.db.decide import Limits
from bursar.db.items import Situation
from bursar.handlers.messages import ReceivedMessage
from bursar.service.deciding.decider import Decider
from bursar.service.servers import running_servers
from bursar.service.ticks.paging import Sweeping

RESULTS = Path(__file__).parent / "results" / "sweeps.json"
PARTITIONS = 32
MAX_PAGES = 10_000  # of one partition
NOW = datetime(2026, 6, 1, 9, tzinfo=UTC)
CATALOGUE = Catalogue(
    kiloclaw=KiloclawTerms(earlybird=EarlybirdTerms(access_until=datetime(2026, 9, 26, tzinfo=UTC))),
    prices=Prices(standard=("price_standard",), commit=("price_commit",)),
)
MEASURED = ("1,000 due", "a quiet hour")

console = Console()


@dataclass
class Clock:
    """Business time as the bench sets it."""

    now: datetime = NOW

    async def situation(self, _: Connection) -> Situation:
        return Situation(self.now, self.now)


class Filled(Value):
    """A filled database and what sweeps it."""

    rows: int
    connection: Connection
    sweeping: Sweeping
    clock: Clock


def main() -> None:
    """Measure both and print them side by side."""
    options = _options()
    with running_servers("bench-sweeps", durable=True) as servers:
        seconds = asyncio.run(_measure_all(servers.database_url, options))
    report = _report(seconds, options)
    _print(report)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--due", type=int, default=1_000, help="rows due in each")
    parser.add_argument("--rounds", type=int, default=5, help="of both in turn, after one that does not count")
    return parser.parse_args()


async def _measure_all(database_url: str, options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """In turn, and each first in every other round: a machine that becomes slower is slower for both."""
    seconds: dict[str, dict[str, list[float]]] = {size: {one: [] for one in MEASURED} for size in ("small", "large")}
    async with AsyncExitStack() as stack:
        filled = {
            size: await stack.enter_async_context(_filled(database_url, getattr(options, size), options.due))
            for size in seconds
        }
        for number in range(options.rounds + 1):
            for size in sorted(filled, reverse=bool(number % 2)):
                took = await _round(filled[size], number, options.due)
                for measured, value in zip(MEASURED, took, strict=True):
                    seconds[size][measured] += [value] if number else []
                console.print(f"round {number}, {filled[size].rows:,} rows: {took[0]:.2f} s, {took[1]:.2f} s")
    return seconds


async def _round(table: Filled, number: int, due: int) -> tuple[float, float]:
    """Seconds for a sweep of what is due, and for a whole tick when nothing is."""
    # A later instant each time, so that each suspension is a new one with mails of its own.
    table.clock.now = NOW + timedelta(minutes=1 + number)
    sweep = await _tick(table, "trial_expiry")
    suspended = await table.connection.fetchval(
        "SELECT count(*) FROM kiloclaw_subscriptions WHERE suspended_at = $1", table.clock.now
    )
    if suspended != due:
        raise SystemExit(f"{suspended} rows were suspended, not {due}")
    quiet = await _tick(table, "hourly")
    await _set_back(table)
    return sweep, quiet


async def _tick(table: Filled, sweep: str) -> float:
    began = time.perf_counter()
    for partition in range(PARTITIONS):
        body = {"sweep": sweep, "due_at": table.clock.now.isoformat(), "partition": partition}
        await table.sweeping.begin(ReceivedMessage(f"tick:{sweep}", "tick", "", orjson.dumps(body)))
        for _ in range(MAX_PAGES):
            if not await table.sweeping.page(partition):
                break
    return time.perf_counter() - began


@asynccontextmanager
async def _filled(database_url: str, rows: int, due: int) -> AsyncIterator[Filled]:
    async with fresh_database(database_url) as address:
        connection = await asyncpg.connect(address)
        console.print(f"filling {rows:,} rows")
        await _fill(connection, rows, due)
        pool = await open_pool(address, max_size=2, name="bench")
        clock = Clock()
        try:
            sweeping = Sweeping(Decider(pool, clock, Limits(PARTITIONS, rows)), CATALOGUE)
            yield Filled(rows, connection, sweeping, clock)
        finally:
            await pool.close()
            await connection.close()


async def _fill(connection: Connection, rows: int, due: int) -> None:
    """The first are due: trials that ended. Of the others 60 in 100 are active, 20 in trial, 10 past due, 9 canceled
    with time left, 1 suspended; each has an instance.
    """
    await connection.execute(
        "INSERT INTO accounts (key, partition) SELECT 'user:u' || n, n % 32 FROM generate_series(1, $1::integer) AS n",
        rows,
    )
    await connection.execute(
        """
        INSERT INTO kiloclaw_instances
            (id, account_key, partition, created_at, desired_state, generation, done_generation, wanted_since, due_at)
        SELECT 'i' || n, 'user:u' || n, n % 32, $3, CASE WHEN n > $2 AND n % 100 = 99 THEN 'stopped' ELSE 'running' END,
            1, 1, $3, $3
        FROM generate_series(1, $1::integer) AS n
        """,
        rows,
        due,
        NOW,
    )
    await _fill_subscriptions(connection, rows, due)
    await connection.execute("VACUUM ANALYZE")


async def _fill_subscriptions(connection: Connection, rows: int, due: int) -> None:
    await connection.execute(
        """
        INSERT INTO kiloclaw_subscriptions (id, user_id, account_key, partition, version, created_at, instance_id, plan,
            status, payment_source, stripe_subscription_id, trial_started_at, trial_ends_at, current_period_start,
            current_period_end, past_due_since, suspended_at, destruction_deadline)
        SELECT gen_random_uuid(), 'u' || n, 'user:u' || n, n % 32, 1, $3, 'i' || n,
            CASE WHEN trial THEN 'trial' ELSE 'standard' END,
            CASE WHEN trial THEN 'trialing' WHEN share < 80 THEN 'active' WHEN share < 90 THEN 'past_due'
                ELSE 'canceled' END,
            CASE WHEN NOT trial THEN 'stripe' END, CASE WHEN NOT trial THEN 'sub_' || n END,
            CASE WHEN trial THEN $3 - interval '40 days' END,
            CASE WHEN n <= $2 THEN $3 - n * interval '1 second' WHEN trial THEN ahead END,
            CASE WHEN NOT trial THEN $3 - interval '1 day' END, CASE WHEN NOT trial THEN ahead END,
            CASE WHEN NOT trial AND share BETWEEN 80 AND 89 THEN $3 END,
            CASE WHEN NOT trial AND share = 99 THEN $3 END, CASE WHEN NOT trial AND share = 99 THEN ahead END
        FROM generate_series(1, $1::integer) AS n,
            LATERAL (SELECT n % 100 AS share, n <= $2 OR n % 100 < 20 AS trial,
                $3::timestamptz + interval '10 days' + n * interval '1 second' AS ahead) AS its
        """,
        rows,
        due,
        NOW,
    )


async def _set_back(table: Filled) -> None:
    """What was suspended is in trial again, as before the round."""
    await table.connection.execute(
        """
        WITH set_back AS (
            UPDATE kiloclaw_subscriptions SET status = 'trialing', suspended_at = NULL, destruction_deadline = NULL
            WHERE suspended_at = $1 RETURNING instance_id)
        UPDATE kiloclaw_instances SET desired_state = 'running', generation = 1, done_generation = 1
        FROM set_back WHERE id = set_back.instance_id
        """,
        table.clock.now,
    )
    await table.connection.execute("VACUUM kiloclaw_subscriptions, kiloclaw_instances")


def _report(seconds: Mapping[str, Mapping[str, Sequence[float]]], options: argparse.Namespace) -> dict[str, Any]:
    return {
        "rows": {"small": options.small, "large": options.large},
        "due": options.due,
        "cores": os.cpu_count(),
        "seconds": {
            size: {one: [round(value, 3) for value in took[one]] for one in MEASURED} for size, took in seconds.items()
        },
        "median": {size: {one: round(median(took[one]), 3) for one in MEASURED} for size, took in seconds.items()},
        "ratio": {one: round(median(seconds["large"][one]) / median(seconds["small"][one]), 2) for one in MEASURED},
    }


def _print(report: Mapping[str, Any]) -> None:
    rows = report["rows"]
    table = Table(title="Seconds of a sweep: median of the rounds")
    for column in ("", f"{rows['small']:,} rows", f"{rows['large']:,} rows", "times"):
        table.add_column(column, justify="right" if column else "left")
    for one in MEASURED:
        small, large = (f"{report['median'][size][one]:.2f}" for size in ("small", "large"))
        table.add_row(one, small, large, f"{report['ratio'][one]:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
