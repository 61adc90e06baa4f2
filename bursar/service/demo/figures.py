"""What the demo reads in the service's database to compare and to report."""

from collections.abc import Collection

from asyncpg import Connection

from bursar.service.demo.expectations import RowView


async def subscription_rows(connection: Connection) -> dict[str, RowView]:
    """Every row by its user."""
    rows = await connection.fetch(
        """
        SELECT user_id, plan, status, stripe_subscription_id, current_period_end, cancel_at_period_end
        FROM kiloclaw_subscriptions
        """
    )
    return {row["user_id"]: RowView(**dict(row)) for row in rows}


async def handled_ids(connection: Connection, event_ids: Collection[str]) -> set[str]:
    """Which of these events the inbox knows (MS-3)."""
    rows = await connection.fetch("SELECT message_id FROM inbox WHERE message_id = ANY($1::text[])", sorted(event_ids))
    return {row["message_id"] for row in rows}


async def parked_messages(connection: Connection) -> dict[str, int]:
    """Messages that wait for a retry or an operator, by state."""
    rows = await connection.fetch(
        """
        SELECT state, count(*) AS messages FROM parked_messages
        WHERE state IN ('retrying', 'parked') GROUP BY state
        """
    )
    return {row["state"]: row["messages"] for row in rows}


async def open_steps(connection: Connection) -> dict[str, int]:
    """Steps that are not through, by state."""
    rows = await connection.fetch(
        """
        SELECT state, count(*) AS steps FROM steps
        WHERE state IN ('due', 'skipped', 'failed') GROUP BY state
        """
    )
    return {row["state"]: row["steps"] for row in rows}
