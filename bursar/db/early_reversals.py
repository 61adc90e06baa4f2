"""Refunds and lost disputes, and the payments they are of, whichever comes first (CR-11, MS-3)."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime

from bursar.billing.account import Account, user_key
from bursar.billing.credits.invoice_search import handing_over
from bursar.billing.credits.ledger import Credits, Entry, EntryKind, Reversal, credits_of
from bursar.billing.credits.reversals import PAYMENT_TOO_OLD, with_early_reversals
from bursar.billing.errors import Permanent
from bursar.billing.values import Value, replace
from bursar.db import steps
from bursar.db.connections import Connection, dumps
from bursar.db.saving import Change, SaveContext

PAYMENT_LOCKS = 7_208_002  # the first half of the advisory locks' keys; the second is the payment's hash
# Stripe sends an event for 30 days, an invoice waits 90 for its subscription; what is parked waits for an operator.
KEEP_DAYS = 400


LoadLedgers = Callable[[Connection, list[str]], Awaitable[Mapping[str, Credits]]]


class Early(Value):
    """A reversal, and the account that it was decided for."""

    account_key: str
    reversal: Reversal


async def exchange(
    connection: Connection, changes: Sequence[Change[Credits]], context: SaveContext, load: LoadLedgers
) -> Mapping[str, Sequence[Entry]]:
    """Remember the reversals that came before their payment; returns, by account, the entries of those that waited for
    a payment which is deposited now. `load` reads whole ledgers.

    One whose payment another account's ledger knows is handed over by a step: that account is not locked here (CR-5).
    """
    early = _early(changes)
    deposits = {payment_id for change in changes for payment_id in _deposited(change)}
    if not early and not deposits:
        return {}
    await _lock(connection, deposits.union(*(one.reversal.payment_ids for one in early)))
    if early:
        await _remember(connection, await _hand_over(connection, early, context), context)
    waited = await _take(connection, deposits) if deposits else []
    waiting = {payment_id for one in waited for payment_id in one.payment_ids}
    concerned = [change for change in changes if not waiting.isdisjoint(_deposited(change))]
    return {change.key: _entries(change, waited) for change in await _whole(connection, concerned, load)}


async def owner_of(connection: Connection, payment_ids: Sequence[str]) -> str | None:
    """The key of the account whose ledger knows the payment by one of these names."""
    return _owner(await keys_of_payments(connection, payment_ids), payment_ids)


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


async def forget_before(connection: Connection, cutoff: datetime, limit: int) -> int:
    """Drop at most `limit` reversals remembered before the cutoff, whose payment never came; returns how many."""
    status = await connection.execute(
        """
        DELETE FROM credit_early_reversals WHERE business_key IN (
            SELECT business_key FROM credit_early_reversals WHERE remembered_at < $1 ORDER BY remembered_at LIMIT $2)
        """,
        cutoff,
        limit,
    )
    return int(status.rpartition(" ")[2])


def _early(changes: Iterable[Change[Credits]]) -> Sequence[Early]:
    """Each reversal once, by all the ids that are known of its payment."""
    known = dict[str, Early]()
    for change in changes:
        for one in change.after.early_reversals:
            before = known[one.business_key].reversal.payment_ids if one.business_key in known else ()
            payment_ids = tuple(dict.fromkeys((*before, *one.payment_ids)))
            known[one.business_key] = Early(change.key, replace(one, payment_ids=payment_ids))
    return tuple(known.values())


def _deposited(change: Change[Credits]) -> set[str]:
    new = change.after.entries[len(change.before.entries) :]
    brings = (EntryKind.DEPOSIT, EntryKind.SETTLEMENT_DEPOSIT)
    return {one.payment_id for one in new if one.kind in brings and one.amount_microdollars > 0 and one.payment_id}


async def _whole(
    connection: Connection, changes: Sequence[Change[Credits]], load: LoadLedgers
) -> list[Change[Credits]]:
    """These changes with all entries: what is taken back goes by every name of its payment, not by the asked ones."""
    in_part = [change.key for change in changes if change.after.of_payments is not None]
    loaded = await load(connection, in_part) if in_part else {}
    whole = list[Change[Credits]]()
    for change in changes:
        before = loaded.get(change.key, change.before)
        entries = (*before.entries, *change.after.entries[len(change.before.entries) :])
        whole.append(Change(change.key, before, replace(change.after, entries=entries, of_payments=before.of_payments)))
    return whole


def _entries(change: Change[Credits], waited: Sequence[Reversal]) -> Sequence[Entry]:
    mine = [one for one in waited if not _deposited(change).isdisjoint(one.payment_ids)]
    taken = credits_of(with_early_reversals(Account(change.key, {Credits: change.after}), mine))
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


async def _hand_over(connection: Connection, early: Sequence[Early], context: SaveContext) -> Sequence[Early]:
    """Those whose payment no ledger knows; a step takes the others to the account whose ledger does."""
    owners = await keys_of_payments(connection, [name for one in early for name in one.reversal.payment_ids])
    unknown, wanted = list[Early](), list[steps.Wanted]()
    for one in early:
        owner = _owner(owners, one.reversal.payment_ids)
        if owner == one.account_key:
            raise Permanent(PAYMENT_TOO_OLD)
        if owner is None:
            unknown.append(one)
        else:
            wanted.append(steps.Wanted(one.account_key, handing_over(one.reversal), one.reversal.cause))
    if wanted:
        await steps.ask(connection, wanted, context.real_now)
        await _forget(connection, [one.reversal for one in early if one not in unknown])
    return unknown


def _owner(owners: Mapping[str, str], payment_ids: Iterable[str]) -> str | None:
    return next((owners[name] for name in payment_ids if name in owners), None)


async def _remember(connection: Connection, early: Sequence[Early], context: SaveContext) -> None:
    """One that was remembered before is known by more names now; one that was taken is not remembered again."""
    await connection.execute(
        """
        INSERT INTO credit_early_reversals AS known
            (business_key, kind, payment_ids, amount_microdollars, cause, remembered_at)
        SELECT business_key, kind, payment_ids, amount_microdollars, cause, $2
        FROM jsonb_populate_recordset(NULL::credit_early_reversals, $1::text::jsonb) AS early
        WHERE NOT EXISTS (SELECT FROM credit_transactions AS entry WHERE entry.business_key = early.business_key)
        ORDER BY business_key
        ON CONFLICT (business_key) DO UPDATE SET payment_ids = (
            SELECT array_agg(DISTINCT id) FROM unnest(known.payment_ids || excluded.payment_ids) AS id)
        """,
        dumps([one.reversal for one in early]),
        context.real_now,
    )


async def _forget(connection: Connection, reversals: Sequence[Reversal]) -> None:
    await connection.execute(
        "DELETE FROM credit_early_reversals WHERE business_key = ANY($1::text[])",
        [one.business_key for one in reversals],
    )


async def _take(connection: Connection, payment_ids: set[str]) -> list[Reversal]:
    rows = await connection.fetch(
        """
        DELETE FROM credit_early_reversals WHERE payment_ids && $1::text[]
        RETURNING business_key, kind, payment_ids, amount_microdollars, cause
        """,
        list(payment_ids),
    )
    return [
        Reversal(**{**row, "kind": EntryKind(row["kind"]), "payment_ids": tuple(row["payment_ids"])}) for row in rows
    ]
