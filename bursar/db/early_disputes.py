"""Lost disputes and the deposits of their payments, whichever comes first (CR-11)."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from bursar.billing.account import Account, user_key
from bursar.billing.credits.deposits import with_early_disputes
from bursar.billing.credits.ledger import Credits, EarlyDispute, Entry, EntryKind, credits_of
from bursar.billing.errors import Retryable
from bursar.db.connections import Connection, dumps
from bursar.db.saving import Change, SaveContext

PAYMENT_LOCKS = 7_208_002  # the first half of the advisory locks' keys; the second is the payment's hash
KEPT = timedelta(days=400)


async def exchange(
    connection: Connection, changes: Sequence[Change[Credits]], context: SaveContext
) -> Mapping[str, Sequence[Entry]]:
    """Remember the disputes that came before their payment; returns, by account, the entries of those that waited for a
    payment which is deposited now.

    Raises `Retryable` where the payment was deposited between the look-up and here: the retry finds its user.
    """
    disputes = [one for change in changes for one in change.after.early_disputes]
    deposits = {payment_id for change in changes for payment_id in _deposited(change)}
    if not disputes and not deposits:
        return {}
    await _lock(connection, deposits.union(one.payment_id for one in disputes))
    if disputes:
        await _remember(connection, disputes, context)
    waited = await _take(connection, deposits) if deposits else []
    return {change.key: _entries(change, waited) for change in changes} if waited else {}


async def keys_of_payments(connection: Connection, payment_ids: Sequence[str]) -> dict[str, str]:
    """The account key of each payment that the ledger knows; a deleted user's is nobody's (KC-121)."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT payment_id, user_id FROM credit_transactions
        WHERE payment_id = ANY($1::text[]) AND kind IN ('deposit', 'settlement_deposit')
            AND user_id NOT LIKE 'deleted:%'
        """,
        payment_ids,
    )
    return {row["payment_id"]: user_key(row["user_id"]) for row in rows}


def _deposited(change: Change[Credits]) -> set[str]:
    new = change.after.entries[len(change.before.entries) :]
    brings = (EntryKind.DEPOSIT, EntryKind.SETTLEMENT_DEPOSIT)
    return {one.payment_id for one in new if one.kind in brings and one.amount_microdollars > 0 and one.payment_id}


def _entries(change: Change[Credits], waited: Sequence[EarlyDispute]) -> Sequence[Entry]:
    mine = [one for one in waited if one.payment_id in _deposited(change)]
    taken = credits_of(with_early_disputes(Account(change.key, {Credits: change.after}), mine))
    return taken.entries[len(change.after.entries) :]


async def _lock(connection: Connection, payment_ids: set[str]) -> None:
    """One at a time for each payment, until the commit; in one order, so that no two wait for each other."""
    await connection.execute(
        """
        SELECT pg_advisory_xact_lock($1, hash)
        FROM (SELECT DISTINCT hashtext(id) AS hash FROM unnest($2::text[]) AS id ORDER BY 1) AS sorted
        """,
        PAYMENT_LOCKS,
        list(payment_ids),
    )


async def _remember(connection: Connection, disputes: Sequence[EarlyDispute], context: SaveContext) -> None:
    if await keys_of_payments(connection, [one.payment_id for one in disputes]):
        raise Retryable("the payment was deposited meanwhile")
    await connection.execute(
        """
        INSERT INTO credit_early_disputes (dispute_id, payment_id, amount_microdollars, cause, remembered_at)
        SELECT dispute_id, payment_id, amount_microdollars, cause, $2
        FROM jsonb_populate_recordset(NULL::credit_early_disputes, $1::text::jsonb)
        ON CONFLICT (dispute_id) DO NOTHING
        """,
        dumps(disputes),
        context.real_now,
    )
    await connection.execute("DELETE FROM credit_early_disputes WHERE remembered_at < $1", context.real_now - KEPT)


async def _take(connection: Connection, payment_ids: set[str]) -> list[EarlyDispute]:
    rows = await connection.fetch(
        """
        DELETE FROM credit_early_disputes WHERE payment_id = ANY($1::text[])
        RETURNING dispute_id, payment_id, amount_microdollars, cause
        """,
        list(payment_ids),
    )
    return sorted((EarlyDispute(**row) for row in rows), key=lambda one: one.dispute_id)
