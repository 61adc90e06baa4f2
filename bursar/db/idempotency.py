"""Answers kept for `Idempotency-Key`: the first one is given again for 30 days. All instants are real time."""

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from bursar.billing.values import Value
from bursar.db.connections import Connection

KEEP = timedelta(days=30)
# A claim without an answer for so long is of a process that died; the inbox keeps its effect from coming twice, and
# what the effect answered was kept with it.
ABANDONED_AFTER = timedelta(seconds=60)


class Claim(Value):
    """A request under its key: `scope` is the account and the route."""

    scope: str
    key: str
    request_hash: bytes
    claimed_at: datetime

    def command_id(self, began_at: datetime) -> str:
        """The message id of the command that began then under this key."""
        return f"command:{hashlib.sha256(f'{self.scope} {self.key} {began_at.isoformat()}'.encode()).hexdigest()}"


class Ours(Value):
    """The key is ours; `command_id` is of when it was first used for this command, be it by a request that died."""

    command_id: str


class Known(Value):
    """What is known of a key that was used before; `status` is None while its request is in flight."""

    request_hash: bytes
    status: int | None
    answer: Any


async def claim(connection: Connection, wanted: Claim) -> Ours | Known:
    """Claim the key; else what is known of the request that has it."""
    began_at = await connection.fetchval(
        """
        INSERT INTO idempotency AS known (scope, key, request_hash, created_at, began_at, command_id)
        VALUES ($1, $2, $3, $4, $4, $7)
        ON CONFLICT (scope, key) DO UPDATE SET
            request_hash = excluded.request_hash, status = NULL, answer = NULL, created_at = excluded.created_at,
            released = false,
            began_at = CASE
                WHEN known.created_at < $6 THEN excluded.began_at ELSE coalesce(known.began_at, known.created_at) END,
            command_id = CASE WHEN known.created_at < $6 THEN excluded.command_id ELSE known.command_id END,
            result = CASE WHEN known.created_at < $6 THEN NULL ELSE known.result END
        WHERE known.created_at < $6
            OR (known.status IS NULL AND (known.released OR known.created_at < $5)
                AND known.request_hash = excluded.request_hash)
        RETURNING began_at
        """,
        wanted.scope,
        wanted.key,
        wanted.request_hash,
        wanted.claimed_at,
        wanted.claimed_at - ABANDONED_AFTER,
        wanted.claimed_at - KEEP,
        wanted.command_id(wanted.claimed_at),
    )
    return Ours(wanted.command_id(began_at)) if began_at else await _known(connection, wanted)


async def keep_results(connection: Connection, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Keep what commands answer, by their ids, in the transaction that carries their effect; nothing of those that
    came without a key.
    """
    await connection.execute(
        """
        UPDATE idempotency SET result = kept.result
        FROM unnest($1::text[], $2::jsonb[]) AS kept (command_id, result)
        WHERE idempotency.command_id = kept.command_id
        """,
        list(results),
        list(results.values()),
    )


async def result_of(connection: Connection, command_id: str) -> Mapping[str, Any] | None:
    """What the command answered when it was decided; None where that was not kept."""
    result: Mapping[str, Any] | None = await connection.fetchval(
        "SELECT result FROM idempotency WHERE command_id = $1", command_id
    )
    return result


async def keep_answer(connection: Connection, ours: Claim, status: int, answer: Any) -> None:  # noqa: ANN401 - any JSON
    """Keep the answer of a request that we claimed."""
    await connection.execute(
        """
        UPDATE idempotency SET status = $4, answer = $5
        WHERE scope = $1 AND key = $2 AND created_at = $3 AND status IS NULL
        """,
        ours.scope,
        ours.key,
        ours.claimed_at,
        status,
        answer,
    )


async def release(connection: Connection, ours: Claim) -> None:
    """Give the key back for the same request: it came to no answer that may be kept."""
    await connection.execute(
        """
        UPDATE idempotency SET released = true
        WHERE scope = $1 AND key = $2 AND created_at = $3 AND status IS NULL
        """,
        ours.scope,
        ours.key,
        ours.claimed_at,
    )


async def forget(connection: Connection, ours: Claim) -> None:
    """Give the key back for any request: this one was not understood."""
    await connection.execute(
        "DELETE FROM idempotency WHERE scope = $1 AND key = $2 AND created_at = $3 AND status IS NULL",
        ours.scope,
        ours.key,
        ours.claimed_at,
    )


async def _known(connection: Connection, wanted: Claim) -> Known:
    row = await connection.fetchrow(
        "SELECT request_hash, status, answer FROM idempotency WHERE scope = $1 AND key = $2", wanted.scope, wanted.key
    )
    # Released between the two statements: as good as in flight, the caller tries again.
    return Known(row["request_hash"], row["status"], row["answer"]) if row else Known(wanted.request_hash, None, None)
