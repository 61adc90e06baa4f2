"""The credit ledger: loaded and appended to for many accounts at once. What it refuses stands in 0010_credits.sql."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from types import MappingProxyType

from asyncpg import Record

from bursar.billing.account import user_id_of
from bursar.billing.credits.ledger import Credits, Entry, EntryKind
from bursar.billing.values import Value
from bursar.db import early_reversals
from bursar.db.connections import Connection, dumps
from bursar.db.saving import Change, SaveContext

KINDS = {kind.value: kind for kind in EntryKind}  # a look-up instead of the enumeration's call
MAX_ENTRIES_LOADED = 1_000  # of each account; an older entry's key is the unique index's to refuse


class Statement(Value):
    """What an account holds."""

    acquired_microdollars: int
    used_microdollars: int
    balance_microdollars: int


class PostedEntry(Value):
    """One line of the ledger as it was written."""

    id: int
    amount_microdollars: int
    kind: str
    description: str
    business_key: str
    payment_id: str | None
    cause: str
    created_at: datetime


async def load(
    connection: Connection, keys: list[str], asked: Mapping[str, frozenset[str] | None] = MappingProxyType({})
) -> Mapping[str, Credits]:
    """The credit parts of these accounts, in one statement whatever their number.

    An account that is `asked` about some payments only, none of which its ledger knows, gets the old settlements at
    most: what its other entries are makes no difference then, and they would be more from year to year.
    """
    of_users = [key for key in keys if user_id_of(key)]
    payments = [asked.get(key) for key in of_users]
    rows = await connection.fetch(
        """
        WITH known AS MATERIALIZED (
            SELECT DISTINCT user_id FROM credit_transactions
            WHERE payment_id = ANY($3::text[]) AND kind IN ('deposit', 'settlement_deposit')
        ), owner AS MATERIALIZED (
            SELECT user_id, place, whole OR user_id IN (SELECT user_id FROM known) AS whole
            FROM unnest($1::text[], $2::boolean[]) WITH ORDINALITY AS told (user_id, whole, place)
        )
        SELECT owner.place, owner.whole, mismatch.id IS NOT NULL, account.acquired_microdollars,
            account.used_microdollars, entry.kind, entry.amount_microdollars, entry.description, entry.business_key,
            entry.cause, entry.payment_id
        FROM owner
        LEFT JOIN credit_accounts AS account ON account.user_id = owner.user_id
        LEFT JOIN credit_mismatches AS mismatch ON mismatch.user_id = owner.user_id AND mismatch.cleared_at IS NULL
        LEFT JOIN LATERAL (
            (SELECT * FROM credit_transactions
            WHERE owner.whole AND user_id = owner.user_id ORDER BY id DESC LIMIT $4)
            UNION ALL
            (SELECT * FROM credit_transactions
            WHERE NOT owner.whole AND user_id = owner.user_id AND left(business_key, 20) = 'kiloclaw-settlement:'
            ORDER BY id DESC LIMIT $4)
        ) AS entry ON true
        ORDER BY owner.place, entry.id
        """,
        [user_id_of(key) for key in of_users],
        [one is None for one in payments],
        [payment_id for one in payments if one for payment_id in one],
        MAX_ENTRIES_LOADED,
    )
    by_owner = groupby(rows, key=itemgetter(0))  # one has a row for each entry, or a single one without
    loaded = {of_users[place - 1]: _credits(list(of_owner), payments[place - 1]) for place, of_owner in by_owner}
    return {key: loaded.get(key) or Credits() for key in keys}


async def save(connection: Connection, changes: list[Change[Credits]], context: SaveContext) -> None:
    """Append the new entries in one statement, so that pairs are whole; the counters follow by themselves (CR-1)."""
    reversals = await early_reversals.exchange(connection, changes, context, load)
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


def _credits(rows: Sequence[Record], asked: frozenset[str] | None) -> Credits:
    _, is_whole, charges_stopped, acquired_microdollars, used_microdollars, newest_kind, *_ = rows[-1]
    return Credits(
        acquired_microdollars or 0,
        used_microdollars or 0,
        tuple([Entry(KINDS[row[5]], *row[6:]) for row in rows]) if newest_kind else (),
        charges_stopped=charges_stopped,
        of_payments=None if is_whole else asked,
    )
