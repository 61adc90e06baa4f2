"""Ticks: which there were (MS-8), how far each partition came, and what they counted (KC-80)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from asyncpg import Record

from bursar.billing.values import Value
from bursar.db.connections import Connection

KEEP_DAYS = 90

TickState = Literal["running", "done", "superseded"]
Counts = Mapping[str, Mapping[str, int]]  # sweep → name → number


class Tick(Value):
    """A tick is identified by its sweep and its due instant."""

    id: int
    sweep: str
    due_at: datetime


class TickStatus(Value):
    """A tick with what its partitions counted so far, summed. It is done once all of them are."""

    tick: Tick
    state: TickState
    counts: Counts


class TickProgress(Value):
    """How far one partition came with one tick. `cutoff` is business time, `began_at` real time."""

    tick: Tick
    partition: int
    stage: int
    cursor: list[Any] | None
    counts: Counts
    cutoff: datetime
    began_at: datetime


async def insert_tick(connection: Connection, sweep: str, due_at: datetime, real_now: datetime) -> Tick:
    """The tick of that sweep and instant, made unless it exists: a second one is the first (MS-8)."""
    tick_id = await connection.fetchval(
        """
        INSERT INTO ticks (sweep, due_at, created_at) VALUES ($1, $2, $3)
        ON CONFLICT (sweep, due_at) DO UPDATE SET sweep = excluded.sweep
        RETURNING id
        """,
        sweep,
        due_at,
        real_now,
    )
    return Tick(tick_id, sweep, due_at)


async def exists(connection: Connection, sweep: str, due_at: datetime) -> bool:
    """Whether there is that tick."""
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM ticks WHERE sweep = $1 AND due_at = $2)", sweep, due_at
    )
    return found


async def mark_expanded(connection: Connection, tick_id: int, partitions: int, real_now: datetime) -> None:
    """Note that the messages to all partitions are published."""
    await connection.execute(
        "UPDATE ticks SET expanded_at = $3, partitions = $2 WHERE id = $1 AND expanded_at IS NULL",
        tick_id,
        partitions,
        real_now,
    )


async def unexpanded(connection: Connection, created_before: datetime, limit: int) -> list[Tick]:
    """Ticks that were made before that instant and whose messages were not published, oldest first."""
    rows = await connection.fetch(
        """
        SELECT id, sweep, due_at FROM ticks WHERE expanded_at IS NULL AND created_at <= $1
        ORDER BY created_at LIMIT $2
        """,
        created_before,
        limit,
    )
    return [Tick(**row) for row in rows]


async def begin_partition(
    connection: Connection, tick_id: int, partition: int, cutoff: datetime, real_now: datetime
) -> None:
    """Begin a tick's work on a partition, once. Only the latest due tick of a sweep runs: older ones end here."""
    async with connection.transaction():
        await connection.execute(
            """
            INSERT INTO tick_partitions (tick_id, partition, cutoff, began_at, state, finished_at)
            SELECT $1, $2, $3, $4,
                CASE WHEN overtaken THEN 'superseded' ELSE 'running' END, CASE WHEN overtaken THEN $4::timestamptz END
            FROM (
                SELECT EXISTS (
                    SELECT FROM ticks AS newer JOIN ticks AS this ON newer.sweep = this.sweep
                    WHERE this.id = $1 AND newer.due_at > this.due_at AND newer.due_at <= $3) AS overtaken
            ) AS compared
            ON CONFLICT (tick_id, partition) DO NOTHING
            """,
            tick_id,
            partition,
            cutoff,
            real_now,
        )
        await connection.execute(
            """
            UPDATE tick_partitions SET state = 'superseded', finished_at = $3
            FROM ticks AS older JOIN ticks AS this ON older.sweep = this.sweep AND older.due_at < this.due_at
            WHERE this.id = $1 AND older.id = tick_partitions.tick_id
                AND tick_partitions.partition = $2 AND tick_partitions.state = 'running'
            """,
            tick_id,
            partition,
            real_now,
        )


async def running(connection: Connection, partition: int) -> TickProgress | None:
    """The oldest tick that is under way on a partition."""
    row = await connection.fetchrow(
        """
        SELECT tick_id, sweep, due_at, partition, stage, cursor, counts, cutoff, began_at
        FROM tick_partitions JOIN ticks ON ticks.id = tick_id
        WHERE partition = $1 AND state = 'running' ORDER BY tick_id LIMIT 1
        """,
        partition,
    )
    return _progress(row) if row else None


async def save_progress(
    connection: Connection, before: TickProgress, after: TickProgress, finished_at: datetime | None
) -> bool:
    """Move a partition on from `before`, and end it with `finished_at`; False when another has moved it meanwhile."""
    status = await connection.execute(
        """
        UPDATE tick_partitions SET stage = $5, cursor = $6, counts = $7, finished_at = $8::timestamptz,
            state = CASE WHEN $8::timestamptz IS NULL THEN 'running' ELSE 'done' END
        WHERE tick_id = $1 AND partition = $2 AND state = 'running'
            AND stage = $3 AND cursor IS NOT DISTINCT FROM $4::jsonb
        """,
        before.tick.id,
        before.partition,
        before.stage,
        before.cursor,
        after.stage,
        after.cursor,
        after.counts,
        finished_at,
    )
    return bool(status != "UPDATE 0")


async def status_of(connection: Connection, tick_id: int) -> TickStatus | None:
    """A tick and what it counted, or None when there is no such tick."""
    tick = await connection.fetchrow("SELECT id, sweep, due_at, partitions FROM ticks WHERE id = $1", tick_id)
    if tick is None:
        return None
    rows = await connection.fetch("SELECT state, counts, reported FROM tick_partitions WHERE tick_id = $1", tick_id)
    states = {row["state"] for row in rows}
    whole = tick["partitions"] is not None and len(rows) >= tick["partitions"] and "running" not in states
    state: TickState = "running"
    if whole:
        state = "superseded" if "superseded" in states else "done"
    total: Counts = {}
    for row in rows:
        total = added(added(total, row["counts"]), row["reported"] or {})
    return TickStatus(Tick(tick["id"], tick["sweep"], tick["due_at"]), state, total)


async def report(connection: Connection, tick_id: int, partition: int, sweep: str, counts: Mapping[str, int]) -> None:
    """Add what a step of that tick found; the same step again replaces it."""
    await connection.execute(
        """
        UPDATE tick_partitions SET reported = coalesce(reported, '{}') || jsonb_build_object($3::text, $4::jsonb)
        WHERE tick_id = $1 AND partition = $2
        """,
        tick_id,
        partition,
        sweep,
        dict(counts),
    )


async def last_reported(connection: Connection, sweep: str) -> datetime | None:
    """When the newest tick began (real time) for which that sweep's step came to its end."""
    began_at: datetime | None = await connection.fetchval(
        """
        SELECT began_at FROM tick_partitions WHERE reported IS NOT NULL AND reported ? $1
        ORDER BY began_at DESC LIMIT 1
        """,
        sweep,
    )
    return began_at


async def forget_before(connection: Connection, cutoff: datetime, limit: int) -> int:
    """Drop at most `limit` ticks made before the cutoff, with their partitions' rows; returns how many."""
    status = await connection.execute(
        "DELETE FROM ticks WHERE id IN (SELECT id FROM ticks WHERE created_at < $1 ORDER BY created_at LIMIT $2)",
        cutoff,
        limit,
    )
    return int(status.rpartition(" ")[2])


def added(one: Counts, other: Counts) -> Counts:
    """The sums of two sets of counts."""
    total = {sweep: dict(numbers) for sweep, numbers in one.items()}
    for sweep, numbers in other.items():
        into = total.setdefault(sweep, {})
        for name, number in numbers.items():
            into[name] = into.get(name, 0) + number
    return total


def _progress(row: Record) -> TickProgress:
    tick = Tick(row["tick_id"], row["sweep"], row["due_at"])
    return TickProgress(
        tick, row["partition"], row["stage"], row["cursor"], row["counts"], row["cutoff"], row["began_at"]
    )
