"""Messages that failed: retried from their row three times, then parked for an operator (MS-6). Nothing is dropped."""

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from bursar.billing.errors import Permanent, describe
from bursar.billing.values import Value
from bursar.db import inbox
from bursar.db.connections import Connection, dumps
from bursar.db.items import MessageCopy

RETRY_DELAYS_SECONDS = (10, 60, 300)  # three retries, then parked
JITTER = 0.2


class FailedMessage(Value):
    """A message, for which account if that could be told, and what went wrong."""

    message_id: str
    account_key: str | None
    copy: MessageCopy
    error: Exception


class ParkedMessage(Value):
    """A row of `parked_messages` to be decided again."""

    message_id: str
    account_key: str | None
    type: str
    headers: dict[str, Any]
    body: bytes
    attempts: int


async def record_first_failures(connection: Connection, failed: Sequence[FailedMessage], real_now: datetime) -> None:
    """Write newly failed messages down: for a retry after a delay, or parked at once when they are hopeless."""
    hopeless = [isinstance(one.error, Permanent) for one in failed]
    await connection.execute(
        """
        INSERT INTO parked_messages
            (message_id, account_key, type, headers, body, error, state, retry_at, attempts,
             first_failed_at, last_failed_at)
        SELECT message_id, account_key, type, headers::jsonb, body, error,
            CASE WHEN hopeless THEN 'parked' ELSE 'retrying' END, CASE WHEN hopeless THEN NULL ELSE $8::timestamptz END,
            1, $9, $9
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::boolean[])
            AS failed (message_id, account_key, type, headers, body, error, hopeless)
        ON CONFLICT (message_id) DO NOTHING
        """,
        [one.message_id for one in failed],
        [one.account_key for one in failed],
        [one.copy.type for one in failed],
        [dumps(dict(one.copy.headers)) for one in failed],
        [one.copy.body for one in failed],
        [describe(one.error) for one in failed],
        hopeless,
        _retry_at(1, real_now),
        real_now,
    )


async def record_unhandled(connection: Connection, failed: Sequence[FailedMessage], real_now: datetime) -> set[str]:
    """Write down messages of which nothing was saved, in a transaction of the caller's: their ids are noted as handled,
    so that a second delivery waits for the retry too (MS-3). One handled by another meanwhile stays out; returns the
    ids that were written down.
    """
    new = await inbox.record(connection, [one.message_id for one in failed], real_now)
    if new:
        await record_first_failures(connection, [one for one in failed if one.message_id in new], real_now)
    return new


async def record_failed_retry(
    connection: Connection, message_id: str, attempts: int, error: Exception, real_now: datetime
) -> None:
    """Write a failed retry down, after `attempts` earlier failures: the next one after a longer delay, or parked
    after the last. One that was parked stays so.
    """
    attempts += 1
    retry_at = None if isinstance(error, Permanent) else _retry_at(attempts, real_now)
    await connection.execute(
        """
        UPDATE parked_messages SET attempts = $2, error = $3, last_failed_at = $4,
            retry_at = CASE WHEN state = 'parked' THEN NULL ELSE $5::timestamptz END,
            state = CASE WHEN state = 'parked' OR $5 IS NULL THEN 'parked' ELSE 'retrying' END
        WHERE message_id = $1 AND state IN ('retrying', 'parked')
        """,
        message_id,
        attempts,
        describe(error),
        real_now,
        retry_at,
    )


async def claim_due(
    connection: Connection, real_now: datetime, lease_until: datetime, limit: int
) -> list[ParkedMessage]:
    """Claim messages whose retry is due; a claim that dies comes due again at the lease's end."""
    rows = await connection.fetch(
        """
        UPDATE parked_messages SET retry_at = $2
        WHERE id IN (
            SELECT id FROM parked_messages WHERE state = 'retrying' AND retry_at <= $1
            ORDER BY retry_at LIMIT $3 FOR UPDATE SKIP LOCKED)
        RETURNING message_id, account_key, type, headers, body, attempts
        """,
        real_now,
        lease_until,
        limit,
    )
    return [ParkedMessage(**row) for row in rows]


async def waiting_of(connection: Connection, account_keys: Sequence[str], limit: int) -> list[ParkedMessage]:
    """At most `limit` messages of these accounts that still wait to be decided, oldest first."""
    rows = await connection.fetch(
        """
        SELECT message_id, account_key, type, headers, body, attempts FROM parked_messages
        WHERE account_key = ANY($1::text[]) AND state IN ('retrying', 'parked') ORDER BY first_failed_at LIMIT $2
        """,
        account_keys,
        limit,
    )
    return [ParkedMessage(**row) for row in rows]


async def lock_open(connection: Connection, message_ids: Sequence[str]) -> set[str]:
    """Lock those of the messages that still wait to be decided."""
    rows = await connection.fetch(
        """
        SELECT message_id FROM parked_messages
        WHERE message_id = ANY($1::text[]) AND state IN ('retrying', 'parked') ORDER BY message_id FOR UPDATE
        """,
        message_ids,
    )
    return {row["message_id"] for row in rows}


async def mark_replayed(connection: Connection, message_ids: Sequence[str]) -> None:
    """End messages that were decided after all; one that was discarded meanwhile stays so."""
    await connection.execute(
        """
        UPDATE parked_messages SET state = 'replayed', retry_at = NULL
        WHERE message_id = ANY($1::text[]) AND state IN ('retrying', 'parked')
        """,
        message_ids,
    )


def _retry_at(failures: int, real_now: datetime) -> datetime | None:
    """When to try again after so many failures; None once the retries are used up."""
    if failures > len(RETRY_DELAYS_SECONDS):
        return None
    spread = random.uniform(1, 1 + JITTER)  # noqa: S311 - jitter, not a secret
    return real_now + timedelta(seconds=RETRY_DELAYS_SECONDS[failures - 1] * spread)
