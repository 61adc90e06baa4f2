"""How the runner fares with the instances (KC-77, KC-90…KC-92): claims, backoff, and what operators see.

The desired state itself is saved with the account (`db/kiloclaw.py`); a new generation is due at once.
"""

from datetime import datetime
from uuid import UUID

from bursar.billing.kiloclaw.rows import DesiredState
from bursar.billing.values import Value
from bursar.db.connections import Connection


class ClaimedInstance(Value):
    """An instance under a lease of ours, and the newest generation. `attempts` counts this one."""

    id: str
    account_key: str
    desired_state: DesiredState
    generation: int
    attempts: int
    lease: UUID


class UnresolvedInstance(Value):
    """An instance that is not yet what it shall be, for operators. `wanted_since` and `due_at` are real time."""

    id: str
    account_key: str
    desired_state: DesiredState
    generation: int
    attempts: int
    wanted_since: datetime
    due_at: datetime
    error: str | None


async def claim(
    connection: Connection, real_now: datetime, leased_until: datetime, limit: int
) -> list[ClaimedInstance]:
    """Claim up to `limit` instances to bring about, longest due first.

    One that is being called stays out until its lease ends, however new its generation: one call at a time.
    """
    rows = await connection.fetch(
        """
        UPDATE kiloclaw_instances SET lease = gen_random_uuid(), leased_until = $2, attempts = attempts + 1
        WHERE id IN (
            SELECT id FROM kiloclaw_instances
            WHERE generation > done_generation AND destroyed_at IS NULL AND due_at <= $1
                AND (leased_until IS NULL OR leased_until <= $1)
            ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED)
        RETURNING id, account_key, desired_state, generation, attempts, lease
        """,
        real_now,
        leased_until,
        limit,
    )
    return [ClaimedInstance(**row) for row in rows]


async def release(connection: Connection, claimed: ClaimedInstance) -> None:
    """End a claim whose answer was recorded; a newer generation is due already."""
    await connection.execute(
        "UPDATE kiloclaw_instances SET lease = NULL, leased_until = NULL WHERE id = $1 AND lease = $2",
        claimed.id,
        claimed.lease,
    )


async def postpone(connection: Connection, claimed: ClaimedInstance, due_at: datetime, error: str) -> None:
    """End a claim that failed: tried again at `due_at`, unless a newer generation is due already."""
    await connection.execute(
        """
        UPDATE kiloclaw_instances SET lease = NULL, leased_until = NULL,
            due_at = CASE WHEN generation = $3 THEN $4 ELSE due_at END,
            error = CASE WHEN generation = $3 THEN $5 ELSE error END
        WHERE id = $1 AND lease = $2
        """,
        claimed.id,
        claimed.lease,
        claimed.generation,
        due_at,
        error,
    )


async def unresolved(connection: Connection, wanted_before: datetime, limit: int) -> list[UnresolvedInstance]:
    """Instances whose state has been wanted since before that instant, and every start that failed (KC-77, KC-92)."""
    rows = await connection.fetch(
        """
        SELECT id, account_key, desired_state, generation, attempts, wanted_since, due_at, error
        FROM kiloclaw_instances
        WHERE generation > done_generation AND destroyed_at IS NULL
            AND (wanted_since < $1 OR (desired_state = 'running' AND error IS NOT NULL))
        ORDER BY due_at LIMIT $2
        """,
        wanted_before,
        limit,
    )
    return [UnresolvedInstance(**row) for row in rows]


async def count_unresolved(connection: Connection, wanted_before: datetime) -> int:
    """How many there are."""
    number: int = await connection.fetchval(
        """
        SELECT count(*) FROM kiloclaw_instances
        WHERE generation > done_generation AND destroyed_at IS NULL
            AND (wanted_since < $1 OR (desired_state = 'running' AND error IS NOT NULL))
        """,
        wanted_before,
    )
    return number
