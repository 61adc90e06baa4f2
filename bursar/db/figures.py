"""Counts for operators and the demo: what was handled, what still waits, and how the rows stand."""

from datetime import datetime
from typing import Any

from bursar.db.connections import Connection


async def figures(connection: Connection, real_now: datetime) -> dict[str, Any]:
    """Every figure, all as of one instant: what ends one thing and asks for the next is seen whole or not at all."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return {
            "inbox": await _inbox(connection),
            "steps": await _steps(connection, real_now),
            "retries": await _retries(connection, real_now),
            "instances_not_brought_about": await _instances(connection, real_now),
            "parked": await _parked(connection),
            "subscriptions": await _subscriptions(connection),
            "ticks_running": await _ticks(connection),
        }


async def _inbox(connection: Connection) -> int:
    count: int = await connection.fetchval("SELECT count(*) FROM inbox")
    return count


async def _steps(connection: Connection, real_now: datetime) -> dict[str, int]:
    row = await connection.fetchrow(
        """
        SELECT count(*) FILTER (WHERE state = 'due' AND (due_at <= $1 OR lease IS NOT NULL)) AS due_now,
            count(*) FILTER (WHERE state = 'due' AND due_at > $1 AND lease IS NULL) AS due_later,
            count(*) FILTER (WHERE state = 'skipped') AS skipped,
            count(*) FILTER (WHERE state = 'failed') AS failed
        FROM steps WHERE state IN ('due', 'skipped', 'failed')
        """,
        real_now,
    )
    return dict(row)


async def _retries(connection: Connection, real_now: datetime) -> dict[str, int]:
    row = await connection.fetchrow(
        """
        SELECT count(*) FILTER (WHERE retry_at <= $1) AS due_now, count(*) FILTER (WHERE retry_at > $1) AS due_later
        FROM parked_messages WHERE state = 'retrying'
        """,
        real_now,
    )
    return dict(row)


async def _instances(connection: Connection, real_now: datetime) -> dict[str, int]:
    row = await connection.fetchrow(
        """
        SELECT count(*) FILTER (WHERE due_at <= $1 OR lease IS NOT NULL) AS due_now,
            count(*) FILTER (WHERE due_at > $1 AND lease IS NULL) AS due_later
        FROM kiloclaw_instances WHERE generation > done_generation AND destroyed_at IS NULL
        """,
        real_now,
    )
    return dict(row)


async def _parked(connection: Connection) -> dict[str, int]:
    rows = await connection.fetch("SELECT state, count(*) AS messages FROM parked_messages GROUP BY state")
    return {row["state"]: row["messages"] for row in rows}


async def _subscriptions(connection: Connection) -> list[dict[str, Any]]:
    rows = await connection.fetch(
        """
        SELECT plan, status, count(*) AS rows, count(*) FILTER (WHERE suspended_at IS NOT NULL) AS suspended
        FROM kiloclaw_subscriptions GROUP BY plan, status ORDER BY plan, status
        """
    )
    return [dict(row) for row in rows]


async def _ticks(connection: Connection) -> int:
    count: int = await connection.fetchval(
        "SELECT count(DISTINCT tick_id) FROM tick_partitions WHERE state = 'running'"
    )
    return count
