"""Parked messages as operators find and see them (MS-7)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from bursar.billing.values import Value
from bursar.db.connections import Connection


class ParkedSummary(Value):
    """A parked message without its headers and body."""

    id: int
    message_id: str
    account_key: str | None
    type: str
    state: str
    error: str
    attempts: int
    first_failed_at: datetime
    last_failed_at: datetime
    retry_at: datetime | None


class ParkedFilter(Value):
    """Which messages are meant; None leaves a field open. `error` is a part of the error."""

    state: str | None = None
    type: str | None = None
    account_key: str | None = None
    error: str | None = None


class ParkedInFull(Value):
    """A parked message with its headers; of the body, only the size: it may hold addresses and cards (MS-14)."""

    summary: ParkedSummary
    headers: dict[str, Any]
    body_bytes: int


async def page_of_parked(
    connection: Connection, wanted: ParkedFilter, before_id: int | None, limit: int
) -> list[ParkedSummary]:
    """At most `limit` messages older than `before_id`, the newest first."""
    rows = await connection.fetch(
        """
        SELECT id, message_id, account_key, type, state, error, attempts, first_failed_at, last_failed_at, retry_at
        FROM parked_messages
        WHERE ($1::text IS NULL OR state = $1) AND ($2::text IS NULL OR type = $2)
            AND ($3::text IS NULL OR account_key = $3) AND ($4::text IS NULL OR strpos(error, $4) > 0)
            AND ($5::bigint IS NULL OR id < $5)
        ORDER BY id DESC LIMIT $6
        """,
        wanted.state,
        wanted.type,
        wanted.account_key,
        wanted.error,
        before_id,
        limit,
    )
    return [ParkedSummary(**row) for row in rows]


async def parked_after(connection: Connection, wanted: ParkedFilter, after_id: int, limit: int) -> list[ParkedSummary]:
    """At most `limit` messages newer than `after_id`, the oldest first: the order to replay them in."""
    rows = await connection.fetch(
        """
        SELECT id, message_id, account_key, type, state, error, attempts, first_failed_at, last_failed_at, retry_at
        FROM parked_messages
        WHERE ($1::text IS NULL OR state = $1) AND ($2::text IS NULL OR type = $2)
            AND ($3::text IS NULL OR account_key = $3) AND ($4::text IS NULL OR strpos(error, $4) > 0)
            AND id > $5
        ORDER BY id LIMIT $6
        """,
        wanted.state,
        wanted.type,
        wanted.account_key,
        wanted.error,
        after_id,
        limit,
    )
    return [ParkedSummary(**row) for row in rows]


async def parked_of(connection: Connection, parked_ids: Sequence[int]) -> list[ParkedSummary]:
    """The messages of these ids, the oldest first."""
    rows = await connection.fetch(
        """
        SELECT id, message_id, account_key, type, state, error, attempts, first_failed_at, last_failed_at, retry_at
        FROM parked_messages WHERE id = ANY($1::bigint[]) ORDER BY id
        """,
        parked_ids,
    )
    return [ParkedSummary(**row) for row in rows]


async def parked_in_full(connection: Connection, parked_id: int) -> ParkedInFull | None:
    """One message; None when there is no such row."""
    row = await connection.fetchrow(
        """
        SELECT id, message_id, account_key, type, state, error, attempts, first_failed_at, last_failed_at, retry_at,
            headers, octet_length(body) AS body_bytes
        FROM parked_messages WHERE id = $1
        """,
        parked_id,
    )
    if row is None:
        return None
    values = dict(row)
    headers, body_bytes = values.pop("headers"), values.pop("body_bytes")
    return ParkedInFull(ParkedSummary(**values), headers, body_bytes)


async def count_open(connection: Connection) -> dict[str, int]:
    """How many wait for a retry, and how many for an operator."""
    row = await connection.fetchrow(
        """
        SELECT count(*) FILTER (WHERE state = 'retrying') AS retrying,
            count(*) FILTER (WHERE state = 'parked') AS parked
        FROM parked_messages WHERE state IN ('retrying', 'parked')
        """
    )
    return dict(row)
