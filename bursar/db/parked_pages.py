"""Parked messages as operators see them: newest first, page by page (MS-7)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bursar.db.connections import Connection


@dataclass(frozen=True, slots=True)
class ParkedSummary:
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


@dataclass(frozen=True, slots=True)
class ParkedInFull:
    """A parked message with its headers; of the body, only the size: it may hold addresses and cards (MS-14)."""

    summary: ParkedSummary
    headers: dict[str, Any]
    body_bytes: int


async def page_of_parked(
    connection: Connection, state: str | None, before_id: int | None, limit: int
) -> list[ParkedSummary]:
    """At most `limit` messages older than `before_id`, in that state or in any."""
    rows = await connection.fetch(
        """
        SELECT id, message_id, account_key, type, state, error, attempts, first_failed_at, last_failed_at, retry_at
        FROM parked_messages
        WHERE ($1::text IS NULL OR state = $1) AND ($2::bigint IS NULL OR id < $2)
        ORDER BY id DESC LIMIT $3
        """,
        state,
        before_id,
        limit,
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
