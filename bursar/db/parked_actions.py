"""What operators do with parked messages, written down with actor and reason (MS-7)."""

from collections.abc import Sequence
from datetime import datetime

from bursar.billing.errors import describe
from bursar.billing.values import Value
from bursar.db.connections import Connection
from bursar.db.parked import ParkedMessage

MAX_AT_ONCE = 1_000


class Signature(Value):
    """Who acts, and why."""

    actor: str
    reason: str


class ParkedAction(Value):
    """One action; a replay with an `error` failed and left the message as it was."""

    action: str
    actor: str
    reason: str
    error: str | None
    acted_at: datetime


async def open_messages(connection: Connection, parked_ids: Sequence[int]) -> dict[int, ParkedMessage]:
    """Those of the messages that are neither replayed nor discarded, oldest first, by their ids."""
    rows = await connection.fetch(
        """
        SELECT id, message_id, account_key, type, headers, body, attempts FROM parked_messages
        WHERE id = ANY($1::bigint[]) AND state IN ('retrying', 'parked') ORDER BY id LIMIT $2
        """,
        parked_ids,
        MAX_AT_ONCE,
    )
    found = [dict(row) for row in rows]
    return {row.pop("id"): ParkedMessage(**row) for row in found}


async def record_replay(
    connection: Connection, parked_id: int, signature: Signature, error: Exception | None, real_now: datetime
) -> None:
    """Write a replay down, in the transaction of its effect or of its failure."""
    await connection.execute(
        """
        INSERT INTO parked_actions (parked_id, action, actor, reason, error, acted_at)
        VALUES ($1, 'replay', $2, $3, $4, $5)
        """,
        parked_id,
        signature.actor,
        signature.reason,
        describe(error) if error else None,
        real_now,
    )


async def discard(
    connection: Connection, parked_ids: Sequence[int], signature: Signature, real_now: datetime
) -> set[int]:
    """End messages without their effect; returns those that were still open."""
    rows = await connection.fetch(
        """
        WITH discarded AS (
            UPDATE parked_messages SET state = 'discarded', retry_at = NULL
            WHERE id = ANY($1::bigint[]) AND state IN ('retrying', 'parked')
            RETURNING id)
        INSERT INTO parked_actions (parked_id, action, actor, reason, acted_at)
        SELECT id, 'discard', $2, $3, $4 FROM discarded
        RETURNING parked_id
        """,
        parked_ids,
        signature.actor,
        signature.reason,
        real_now,
    )
    return {row["parked_id"] for row in rows}


async def actions_of(connection: Connection, parked_id: int) -> list[ParkedAction]:
    """What was done with a message, in order; the newest thousand."""
    rows = await connection.fetch(
        """
        SELECT action, actor, reason, error, acted_at FROM parked_actions
        WHERE parked_id = $1 ORDER BY id DESC LIMIT $2
        """,
        parked_id,
        MAX_AT_ONCE,
    )
    return [ParkedAction(**row) for row in reversed(rows)]
