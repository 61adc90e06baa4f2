"""What waits to be done, asked at once: a crew that would find nothing, or a partition without a tick, is not begun."""

from datetime import datetime

from bursar.db.connections import Connection


async def due_crews(connection: Connection, real_now: datetime) -> list[str]:
    """The names of the crews that would find something to claim, in their order."""
    rows = await connection.fetch(
        """
        SELECT kind FROM steps WHERE state = 'due' AND due_at <= $1
        UNION
        SELECT 'instances' FROM kiloclaw_instances
        WHERE generation > done_generation AND destroyed_at IS NULL AND due_at <= $1
            AND (leased_until IS NULL OR leased_until <= $1)
        """,
        real_now,
    )
    return sorted(row["kind"] for row in rows)


async def swept_partitions(connection: Connection) -> list[int]:
    """The partitions on which a tick is under way, in their order."""
    rows = await connection.fetch("SELECT DISTINCT partition FROM tick_partitions WHERE state = 'running'")
    return sorted(row["partition"] for row in rows)
