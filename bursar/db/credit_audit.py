"""Every account's counters against the sum of its entries (CR-4)."""

from collections.abc import Sequence
from datetime import datetime

from bursar.billing.values import Value
from bursar.db.connections import Connection
from bursar.db.parked_actions import Signature

MAX_SHOWN = 1_000


class Audited(Value):
    """One account: its counters less what its entries say, in microdollars; nothing where they fit."""

    user_id: str
    acquired_difference_microdollars: int
    used_difference_microdollars: int

    @property
    def fits(self) -> bool:
        """Whether there is no difference."""
        return not (self.acquired_difference_microdollars or self.used_difference_microdollars)


class OpenMismatch(Value):
    """A mismatch that stops the user's charges."""

    user_id: str
    acquired_difference_microdollars: int
    used_difference_microdollars: int
    found_at: datetime


async def audit_page(connection: Connection, after_user_id: str, limit: int) -> list[Audited]:
    """The next accounts, in the order of their users' ids, each recomputed from its entries as of one snapshot. Entries
    without an account are found too.
    """
    rows = await connection.fetch(
        """
        WITH page AS (
            (SELECT user_id FROM credit_accounts WHERE user_id > $1 ORDER BY user_id LIMIT $2)
            UNION (SELECT DISTINCT user_id FROM credit_transactions WHERE user_id > $1 ORDER BY user_id LIMIT $2)
            ORDER BY user_id LIMIT $2)
        SELECT user_id,
            coalesce(account.acquired_microdollars, 0) - coalesce(summed.acquired, 0) AS acquired,
            coalesce(account.used_microdollars, 0) - coalesce(summed.used, 0) AS used
        FROM page LEFT JOIN credit_accounts AS account USING (user_id) LEFT JOIN LATERAL (
            SELECT sum(amount_microdollars) FILTER (WHERE kind NOT IN ('charge', 'settlement_charge'))::bigint
                    AS acquired,
                -sum(amount_microdollars) FILTER (WHERE kind IN ('charge', 'settlement_charge'))::bigint AS used
            FROM credit_transactions AS entry WHERE entry.user_id = page.user_id) AS summed ON true
        ORDER BY user_id
        """,
        after_user_id,
        limit,
    )
    return [Audited(*tuple(row)) for row in rows]


async def note(connection: Connection, audited: Sequence[Audited], found_at: datetime) -> list[str]:
    """Write mismatches down, which stops these users' charges; returns the users of new ones.

    One that an operator cleared is not found again while the difference stays what it was (`note_mended`).
    """
    rows = await connection.fetch(
        """
        INSERT INTO credit_mismatches
            (user_id, acquired_difference_microdollars, used_difference_microdollars, found_at)
        SELECT found.user_id, found.acquired, found.used, $4
        FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS found (user_id, acquired, used)
        WHERE NOT EXISTS (
            SELECT FROM (
                SELECT acquired_difference_microdollars AS acquired, used_difference_microdollars AS used, mended_at
                FROM credit_mismatches AS known WHERE known.user_id = found.user_id ORDER BY id DESC LIMIT 1) AS last
            WHERE last.acquired = found.acquired AND last.used = found.used AND last.mended_at IS NULL)
        ON CONFLICT (user_id) WHERE cleared_at IS NULL DO NOTHING
        RETURNING user_id
        """,
        [one.user_id for one in audited],
        [one.acquired_difference_microdollars for one in audited],
        [one.used_difference_microdollars for one in audited],
        found_at,
    )
    return [row["user_id"] for row in rows]


async def note_mended(connection: Connection, user_ids: Sequence[str], seen_at: datetime) -> None:
    """These accounts fit their entries: should a difference that was cleared come again, it is a new one."""
    await connection.execute(
        """
        UPDATE credit_mismatches SET mended_at = $2
        WHERE user_id = ANY($1::text[]) AND cleared_at IS NOT NULL AND mended_at IS NULL
        """,
        list(user_ids),
        seen_at,
    )


async def clear(connection: Connection, user_id: str, signature: Signature, cleared_at: datetime) -> bool:
    """Let the user be charged again; False where nothing stops their charges."""
    status = await connection.execute(
        """
        UPDATE credit_mismatches SET cleared_at = $2, cleared_by = $3, reason = $4
        WHERE user_id = $1 AND cleared_at IS NULL
        """,
        user_id,
        cleared_at,
        signature.actor,
        signature.reason,
    )
    return bool(status != "UPDATE 0")


async def open_mismatches(connection: Connection) -> list[OpenMismatch]:
    """Those that stop charges, the oldest first, a thousand at most."""
    rows = await connection.fetch(
        """
        SELECT user_id, acquired_difference_microdollars, used_difference_microdollars, found_at
        FROM credit_mismatches WHERE cleared_at IS NULL ORDER BY found_at, id LIMIT $1
        """,
        MAX_SHOWN,
    )
    return [OpenMismatch(**row) for row in rows]


async def count_open(connection: Connection) -> int:
    """How many users' charges are stopped."""
    number: int = await connection.fetchval("SELECT count(*) FROM credit_mismatches WHERE cleared_at IS NULL")
    return number


async def count_accounts(connection: Connection) -> int:
    """How many accounts there are to audit."""
    number: int = await connection.fetchval("SELECT count(*) FROM credit_accounts")
    return number


async def audited_up_to(connection: Connection) -> str:
    """The user at which the continuous check stands; empty at the beginning of a round."""
    return await connection.fetchval("SELECT after_user_id FROM credit_audit") or ""


async def move_on(connection: Connection, after_user_id: str, moved_at: datetime) -> None:
    """The continuous check stands there now."""
    await connection.execute(
        """
        INSERT INTO credit_audit (after_user_id, moved_at) VALUES ($1, $2)
        ON CONFLICT (only_one) DO UPDATE SET after_user_id = excluded.after_user_id, moved_at = excluded.moved_at
        """,
        after_user_id,
        moved_at,
    )
