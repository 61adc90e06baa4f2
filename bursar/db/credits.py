"""The credit ledger: loaded and appended to for many accounts at once. What it refuses stands in 0010_credits.sql."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from bursar.billing.account import user_id_of
from bursar.billing.credits.ledger import Credits, Entry, EntryKind
from bursar.db import early_reversals
from bursar.db.connections import Connection, dumps
from bursar.db.saving import Change, SaveContext

MAX_ENTRIES_LOADED = 1_000  # of each account; an older entry's key is the unique index's to refuse


@dataclass(frozen=True, slots=True)
class Statement:
    """What an account holds."""

    acquired_microdollars: int
    used_microdollars: int
    balance_microdollars: int


@dataclass(frozen=True, slots=True)
class PostedEntry:
    """One line of the ledger as it was written."""

    id: int
    amount_microdollars: int
    kind: str
    description: str
    business_key: str
    payment_id: str | None
    cause: str
    created_at: datetime


async def load(connection: Connection, keys: list[str]) -> Mapping[str, Credits]:
    """The credit parts of these accounts, in two statements whatever their number."""
    users = [user_id for user_id in map(user_id_of, keys) if user_id]
    counters = await connection.fetch(
        """
        SELECT user_id, acquired_microdollars, used_microdollars, EXISTS (
            SELECT FROM credit_mismatches AS mismatch
            WHERE mismatch.user_id = account.user_id AND mismatch.cleared_at IS NULL) AS stopped
        FROM credit_accounts AS account WHERE user_id = ANY($1::text[])
        """,
        users,
    )
    entries = await connection.fetch(
        """
        SELECT newest.* FROM unnest($1::text[]) AS owner (id) CROSS JOIN LATERAL (
            SELECT id, user_id, kind, amount_microdollars, description, business_key, cause, payment_id
            FROM credit_transactions WHERE user_id = owner.id ORDER BY id DESC LIMIT $2) AS newest
        ORDER BY newest.id
        """,
        users,
        MAX_ENTRIES_LOADED,
    )
    posted: dict[str, list[Entry]] = {}
    for row in entries:
        posted.setdefault(row["user_id"], []).append(_entry(row))
    known = {row["user_id"]: (row["acquired_microdollars"], row["used_microdollars"]) for row in counters}
    stopped = {row["user_id"] for row in counters if row["stopped"]}
    return {
        key: Credits(
            *known.get(user_id_of(key), (0, 0)),
            tuple(posted.get(user_id_of(key) or "", ())),
            charges_stopped=user_id_of(key) in stopped,
        )
        for key in keys
    }


async def save(connection: Connection, changes: list[Change[Credits]], context: SaveContext) -> None:
    """Append the new entries in one statement, so that pairs are whole; the counters follow by themselves (CR-1)."""
    reversals = await early_reversals.exchange(connection, changes, context)
    rows = [
        {
            "user_id": user_id_of(change.key) or change.key,
            "kind": entry.kind,
            "amount_microdollars": entry.amount_microdollars,
            "description": entry.description,
            "business_key": entry.business_key,
            "payment_id": entry.payment_id,
            "cause": entry.cause,
        }
        for change in changes
        for entry in (*change.after.entries[len(change.before.entries) :], *reversals.get(change.key, ()))
    ]
    if not rows:
        return
    await connection.execute(
        """
        INSERT INTO credit_transactions
            (user_id, kind, amount_microdollars, description, business_key, payment_id, cause, created_at)
        SELECT user_id, kind, amount_microdollars, description, business_key, payment_id, cause, $2
        FROM jsonb_populate_recordset(NULL::credit_transactions, $1::text::jsonb)
        """,
        dumps(rows),
        context.now,
    )


async def statement(connection: Connection, user_id: str) -> Statement:
    """The counters of a user; nothing of one who has no entry yet."""
    row = await connection.fetchrow(
        "SELECT acquired_microdollars, used_microdollars FROM credit_accounts WHERE user_id = $1", user_id
    )
    acquired, used = tuple(row) if row else (0, 0)
    return Statement(acquired, used, acquired - used)


async def page_of_entries(connection: Connection, user_id: str, before_id: int | None, limit: int) -> list[PostedEntry]:
    """At most `limit` entries older than `before_id`, or the newest ones, newest first."""
    rows = await connection.fetch(
        """
        SELECT id, amount_microdollars, kind, description, business_key, payment_id, cause, created_at
        FROM credit_transactions WHERE user_id = $1 AND ($2::bigint IS NULL OR id < $2)
        ORDER BY id DESC LIMIT $3
        """,
        user_id,
        before_id,
        limit,
    )
    return [PostedEntry(**row) for row in rows]


async def bury(connection: Connection, user_id: str, tombstone: str) -> int:
    """Put the tombstone in the place of a deleted user's id (KC-121); returns how many entries stay under it."""
    moved: int = await connection.fetchval("SELECT credits_bury($1, $2)", user_id, tombstone)
    return moved


def _entry(row: Mapping[str, object]) -> Entry:
    fields = {name: row[name] for name in ("amount_microdollars", "description", "business_key", "cause", "payment_id")}
    return Entry(kind=EntryKind(str(row["kind"])), **fields)  # type: ignore[arg-type]  # as the columns are
