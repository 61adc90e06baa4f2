"""The inbox: which messages were handled (MS-3)."""

from collections.abc import Sequence
from datetime import datetime

from bursar.db.connections import Connection

KEEP_DAYS = 90  # Stripe sends an event again for 3 days and lists it for 30


async def record(connection: Connection, message_ids: Sequence[str], real_now: datetime) -> set[str]:
    """Record the ids in the transaction that carries their effect; returns those that were new."""
    rows = await connection.fetch(
        """
        INSERT INTO inbox (message_id, received_at)
        SELECT id, $2 FROM unnest($1::text[]) AS id ORDER BY id
        ON CONFLICT (message_id) DO NOTHING
        RETURNING message_id
        """,
        message_ids,
        real_now,
    )
    return {row["message_id"] for row in rows}


async def not_among(connection: Connection, message_ids: Sequence[str]) -> set[str]:
    """Those of the ids that were neither handled nor written down after a failure (MS-9)."""
    rows = await connection.fetch(
        """
        SELECT wanted FROM unnest($1::text[]) AS wanted
        WHERE NOT EXISTS (SELECT FROM inbox WHERE message_id = wanted)
            AND NOT EXISTS (SELECT FROM parked_messages WHERE message_id = wanted)
        """,
        message_ids,
    )
    return {row["wanted"] for row in rows}


async def forget_before(connection: Connection, cutoff: datetime, limit: int) -> int:
    """Drop at most `limit` ids received before the cutoff; returns how many."""
    status = await connection.execute(
        """
        DELETE FROM inbox WHERE message_id IN (
            SELECT message_id FROM inbox WHERE received_at < $1 LIMIT $2
        )
        """,
        cutoff,
        limit,
    )
    return int(status.rpartition(" ")[2])
