"""Renewals that failed unexpectedly, one record for each row and boundary (CR-60…CR-64)."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import asyncpg

from bursar.billing.errors import BursarError, Refused
from bursar.billing.values import Value
from bursar.db.connections import Connection

UNRESOLVED_AFTER_ATTEMPTS = 3
MAX_COUNTED = 100_000  # of the backlog; beyond that it only matters that it is large

FailureState = Literal["retrying", "unresolved", "resolved", "waived", "superseded"]


class FailedRenewal(Value):
    """One failed attempt: the account whose row it is of, and which attempt at that boundary it was, from 1.

    `failed_at` is real time; `error` holds no secret (MS-14).
    """

    account_key: str
    boundary: datetime
    attempt: int
    failed_at: datetime
    category: str
    error: str


class RenewalFailure(Value):
    """A record as it stands; `superseded` once the row has another boundary."""

    id: int
    account_key: str
    boundary: datetime
    state: FailureState
    category: str
    attempts: int
    first_failed_at: datetime
    last_failed_at: datetime
    error: str
    settled_at: datetime | None


class RenewalBacklog(Value):
    """Renewals that are due, up to 100,000, and the oldest one's boundary; open records by state."""

    due: int
    oldest_boundary: datetime | None
    failures: dict[str, int]
    failed_attempts: int
    oldest_failed_at: datetime | None


def category_of(error: BaseException) -> str:
    """What kind of failure it is: a refusal's code, an error of ours by its name, the database, or a bug."""
    if isinstance(error, Refused):
        return error.code
    if isinstance(error, BursarError):
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
    return "database" if isinstance(error, asyncpg.PostgresError) else "bug"


async def attempts_so_far(
    connection: Connection, boundaries: Sequence[tuple[str, datetime]]
) -> dict[tuple[str, datetime], int]:
    """How often renewals failed before, by account and boundary; those that never did are left out."""
    rows = await connection.fetch(
        """
        SELECT account_key, boundary, attempts FROM renewal_failures
        JOIN unnest($1::text[], $2::timestamptz[]) AS wanted (account_key, boundary) USING (account_key, boundary)
        """,
        [key for key, _ in boundaries],
        [boundary for _, boundary in boundaries],
    )
    return {(row["account_key"], row["boundary"]): row["attempts"] for row in rows}


async def record(connection: Connection, failures: Sequence[FailedRenewal]) -> None:
    """Write failed attempts down (CR-61): the highest attempt and the first instant count, in whatever order they
    come; what an operator settled stays settled. At most one of each account.
    """
    await connection.execute(
        """
        INSERT INTO renewal_failures AS known (
            subscription_id, account_key, boundary, category, attempts, first_failed_at, last_failed_at, error, state)
        SELECT row.id, row.account_key, failed.boundary, failed.category, failed.attempt, failed.at, failed.at,
            failed.error, CASE WHEN failed.attempt >= $7 THEN 'unresolved' ELSE 'retrying' END
        FROM unnest($1::text[], $2::timestamptz[], $3::integer[], $4::timestamptz[], $5::text[], $6::text[])
            AS failed (account_key, boundary, attempt, at, category, error)
            JOIN kiloclaw_subscriptions AS row ON row.account_key = failed.account_key
        ON CONFLICT (subscription_id, boundary) DO UPDATE SET
            attempts = greatest(known.attempts, excluded.attempts),
            first_failed_at = least(known.first_failed_at, excluded.first_failed_at),
            last_failed_at = greatest(known.last_failed_at, excluded.last_failed_at),
            category = CASE WHEN excluded.attempts >= known.attempts THEN excluded.category ELSE known.category END,
            error = CASE WHEN excluded.attempts >= known.attempts THEN excluded.error ELSE known.error END,
            state = CASE WHEN known.state IN ('resolved', 'waived') THEN known.state
                WHEN greatest(known.attempts, excluded.attempts) >= $7 THEN 'unresolved' ELSE 'retrying' END
        """,
        [one.account_key for one in failures],
        [one.boundary for one in failures],
        [one.attempt for one in failures],
        [one.failed_at for one in failures],
        [one.category for one in failures],
        [one.error for one in failures],
        UNRESOLVED_AFTER_ATTEMPTS,
    )


async def page_of_failures(
    connection: Connection, state: FailureState | None, before_id: int | None, limit: int
) -> list[RenewalFailure]:
    """At most `limit` records in that state with a smaller id, or the newest ones, newest first."""
    rows = await connection.fetch(
        """
        SELECT id, account_key, boundary, state, category, attempts, first_failed_at, last_failed_at, error, settled_at
        FROM standing_renewal_failures
        WHERE ($1::text IS NULL OR state = $1) AND ($2::bigint IS NULL OR id < $2)
        ORDER BY id DESC LIMIT $3
        """,
        state,
        before_id,
        limit,
    )
    return [RenewalFailure(**row) for row in rows]


async def failure_of(connection: Connection, failure_id: int) -> RenewalFailure | None:
    """One record; None for an unknown id."""
    row = await connection.fetchrow(
        """
        SELECT id, account_key, boundary, state, category, attempts, first_failed_at, last_failed_at, error, settled_at
        FROM standing_renewal_failures WHERE id = $1
        """,
        failure_id,
    )
    return RenewalFailure(**row) if row else None


async def backlog(connection: Connection, now: datetime, partitions: int) -> RenewalBacklog:
    """What is behind, by business time (CR-64). A past-due row waits for its user, not for us."""
    due = await connection.fetchrow(
        """
        SELECT count(*) AS due, min(renews_at) AS oldest FROM (
            SELECT renews_at FROM kiloclaw_subscriptions
            WHERE partition = ANY($2::integer[]) AND renews_at <= $1 AND status = 'active' LIMIT $3) AS waiting
        """,
        now,
        list(range(partitions)),
        MAX_COUNTED,
    )
    rows = await connection.fetch(
        """
        SELECT state, count(*) AS number, sum(attempts) AS attempts, min(first_failed_at) AS oldest
        FROM standing_renewal_failures WHERE state IN ('retrying', 'unresolved') GROUP BY state
        """
    )
    counted = {"retrying": 0, "unresolved": 0} | {row["state"]: row["number"] for row in rows}
    oldest = min((row["oldest"] for row in rows), default=None)
    return RenewalBacklog(due["due"], due["oldest"], counted, sum(row["attempts"] for row in rows), oldest)
