"""What operators do with failed renewals, written down with actor and reason (CR-63)."""

from datetime import datetime
from typing import Literal

from bursar.billing.values import Value
from bursar.db.connections import Connection
from bursar.db.parked_actions import Signature

MAX_SHOWN = 1_000

Settled = Literal["resolved", "waived"]


class FailureAction(Value):
    """One action; a retry with an `error` failed again."""

    action: str
    actor: str
    reason: str
    error: str | None
    acted_at: datetime


async def settle(
    connection: Connection, failure_id: int, state: Settled, signature: Signature, real_now: datetime
) -> bool:
    """Resolve or waive a record; False, and nothing written, where it is settled already (CR-63)."""
    written = await connection.fetchval(
        """
        WITH settled AS (
            UPDATE renewal_failures SET state = $2, settled_at = $5
            WHERE id = $1 AND state IN ('retrying', 'unresolved')
            RETURNING id)
        INSERT INTO renewal_failure_actions (failure_id, action, actor, reason, acted_at)
        SELECT id, CASE $2 WHEN 'waived' THEN 'waive' ELSE 'resolve' END, $3, $4, $5 FROM settled
        RETURNING id
        """,
        failure_id,
        state,
        signature.actor,
        signature.reason,
        real_now,
    )
    return written is not None


async def record_retry(
    connection: Connection,
    failure_id: int,
    signature: Signature,
    error: str | None,
    real_now: datetime,
    *,
    resolves: bool,
) -> None:
    """Write a retry down, and resolve the record where it was an end of it."""
    await connection.execute(
        """
        WITH resolved AS (
            UPDATE renewal_failures SET state = 'resolved', settled_at = $5
            WHERE id = $1 AND $6 AND state IN ('retrying', 'unresolved'))
        INSERT INTO renewal_failure_actions (failure_id, action, actor, reason, error, acted_at)
        VALUES ($1, 'retry', $2, $3, $4, $5)
        """,
        failure_id,
        signature.actor,
        signature.reason,
        error,
        real_now,
        resolves,
    )


async def actions_of(connection: Connection, failure_id: int) -> list[FailureAction]:
    """What was done about a record, in order; the newest thousand."""
    rows = await connection.fetch(
        """
        SELECT action, actor, reason, error, acted_at FROM renewal_failure_actions
        WHERE failure_id = $1 ORDER BY id DESC LIMIT $2
        """,
        failure_id,
        MAX_SHOWN,
    )
    return [FailureAction(**row) for row in reversed(rows)]
