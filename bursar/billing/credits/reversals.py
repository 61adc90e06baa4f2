"""Money that goes back: refunds and lost disputes (CR-11). Parts: Credits.

A reversal is taken from the payment that it is of. One whose payment the ledger does not know, yet or ever, is
remembered (MS-3); since it may have paid an invoice, which neither names, Stripe is asked.
"""

from collections.abc import Iterable, Sequence

from bursar.billing.account import Account
from bursar.billing.credits.invoice_search import finding_invoice
from bursar.billing.credits.ledger import (
    MICRODOLLARS_PER_CENT,
    Credits,
    Entry,
    EntryKind,
    Reversal,
    credits_of,
    with_entry,
    with_settlement,
)
from bursar.billing.credits.payments import CURRENCY, ChargeEvent, DisputeEvent, in_microdollars, is_top_up
from bursar.billing.decision import Decision
from bursar.billing.errors import Permanent
from bursar.billing.values import replace

LOST = "lost"
REFUND_KEY = "refund:"
PAYMENT_TOO_OLD = "the payment's entry is older than those that are loaded"
ACQUIRING = (EntryKind.DEPOSIT, EntryKind.SETTLEMENT_DEPOSIT)
TAKING = (EntryKind.REFUND, EntryKind.DISPUTE, EntryKind.SETTLEMENT_DEPOSIT)


def charge_refunded(account: Account, event: ChargeEvent) -> Decision:
    """`charge.refunded`: it does not name the refund, only how much of the charge is refunded by now. That total is
    the refund's name, and makes its order and its repetition harmless.
    """
    charge = event.charge
    is_ours = is_top_up(charge.metadata) or _payment_of(credits_of(account), charge.payment_ids) is not None
    if charge.amount_refunded == 0:
        return Decision.nothing(account, "noted")
    if charge.currency != CURRENCY and not is_ours:
        return Decision.nothing(account, "foreign")
    before = event.refunded_before or 0
    refund = Reversal(
        kind=EntryKind.REFUND,
        business_key=f"{REFUND_KEY}{charge.id}:{charge.amount_refunded}",
        payment_ids=charge.payment_ids,
        amount_microdollars=in_microdollars(
            charge.amount_refunded - (before if before < charge.amount_refunded else 0), charge.currency
        ),
        cause=event.id,
    )
    return _reversed(account, refund, charge.payment_intent)


def dispute_closed(account: Account, event: DisputeEvent) -> Decision:
    """`charge.dispute.closed`: a lost one takes its amount back."""
    dispute = event.dispute
    if dispute.status != LOST or not dispute.payment_ids or dispute.amount == 0:
        return Decision.nothing(account, "noted")
    if dispute.currency != CURRENCY and _payment_of(credits_of(account), dispute.payment_ids) is None:
        return Decision.nothing(account, "foreign")
    lost = Reversal(
        kind=EntryKind.DISPUTE,
        business_key=f"dispute:{dispute.id}",
        payment_ids=dispute.payment_ids,
        amount_microdollars=in_microdollars(dispute.amount, dispute.currency),
        cause=event.id,
    )
    return _reversed(account, lost, dispute.payment_intent)


def invoices_found(account: Account, reversal: Reversal, invoice_ids: Sequence[str]) -> Decision:
    """Stripe said which invoices the payment had paid: it may be known by one of these, or will be."""
    named = _named(reversal, invoice_ids)
    known = _payment_of(credits_of(account), named.payment_ids)
    if known:
        return _take_back(account, known, named)
    return Decision.nothing(account, "foreign") if named == reversal else _remembering(account, named)


def handed_over(account: Account, reversal: Reversal, invoice_ids: Sequence[str]) -> Decision:
    """The ledger has the payment under this account; Permanent where it is older than what is loaded of it."""
    named = _named(reversal, invoice_ids)
    known = _payment_of(credits_of(account), named.payment_ids)
    if known is None:
        raise Permanent(PAYMENT_TOO_OLD)
    return _take_back(account, known, named)


def with_early_reversals(account: Account, reversals: Iterable[Reversal]) -> Account:
    """The account after reversals that came before their payment; in what order they came makes no difference."""
    for reversal in sorted(reversals, key=_place):
        known = _payment_of(credits_of(account), reversal.payment_ids)
        account = _take_back(account, known, reversal).account if known else account
    return account


def _reversed(account: Account, reversal: Reversal, payment_intent: str | None) -> Decision:
    known = _payment_of(credits_of(account), reversal.payment_ids)
    if known:
        return _take_back(account, known, reversal)
    remembering = _remembering(account, reversal)
    return replace(remembering, steps=(finding_invoice(reversal, payment_intent),)) if payment_intent else remembering


def _named(reversal: Reversal, invoice_ids: Sequence[str]) -> Reversal:
    return replace(reversal, payment_ids=tuple(dict.fromkeys((*reversal.payment_ids, *invoice_ids))))


def _remembering(account: Account, reversal: Reversal) -> Decision:
    credit = credits_of(account)
    waiting = replace(credit, early_reversals=(*credit.early_reversals, reversal))
    return Decision(account.having(waiting), counts={"remembered": 1})


def _take_back(account: Account, known: Entry, reversal: Reversal) -> Decision:
    """Each once, all together never more than the payment; what was spent on hosting goes as a neutral pair."""
    payment_id = str(known.payment_id)
    takings = _takings(credits_of(account), (payment_id, *reversal.payment_ids))
    left = known.amount_microdollars - _taken(takings)
    amount = min(reversal.amount_microdollars, left, _unrefunded(reversal, takings, left))
    if amount <= 0 or credits_of(account).has(reversal.business_key):
        return Decision.nothing(account, "nothing_to_take_back")
    if known.kind is not EntryKind.SETTLEMENT_DEPOSIT:
        withdrawn = with_entry(account, _entry(reversal, reversal.kind, -amount, payment_id))
        return Decision(withdrawn, reason=f"{reversal.kind} of a top-up", counts={"withdrawn": 1})
    deposit = _entry(reversal, EntryKind.SETTLEMENT_DEPOSIT, -amount, payment_id)
    charge = _entry(reversal, EntryKind.SETTLEMENT_CHARGE, amount, payment_id)
    pair = with_settlement(account, deposit, replace(charge, business_key=f"{reversal.business_key}:charge"))
    return Decision(pair, reason=f"{reversal.kind} of a settled invoice", counts={"reversed": 1})


def _entry(reversal: Reversal, kind: EntryKind, amount: int, payment_id: str) -> Entry:
    return Entry(
        kind=kind,
        amount_microdollars=amount,
        description="Refund" if reversal.kind is EntryKind.REFUND else "Lost dispute",
        business_key=reversal.business_key,
        cause=reversal.cause,
        payment_id=payment_id,
    )


def _payment_of(credit: Credits, payment_ids: Sequence[str]) -> Entry | None:
    """The entry that the payment brought, a top-up's deposit or a settled invoice's."""
    brought = credit.of_payment(payment_ids, *ACQUIRING)
    return next((entry for entry in brought if entry.amount_microdollars > 0), None)


def _takings(credit: Credits, payment_ids: Sequence[str]) -> list[Entry]:
    return [entry for entry in credit.of_payment(payment_ids, *TAKING) if entry.amount_microdollars < 0]


def _taken(takings: Iterable[Entry]) -> int:
    return -sum(entry.amount_microdollars for entry in takings)


def _unrefunded(reversal: Reversal, takings: Sequence[Entry], left: int) -> int:
    """What refunds may still take: the largest running total that is known of the charge, less what they took. One
    that came out of order leaves room for those before it, and one that took their part as well leaves none.
    """
    if reversal.kind is not EntryKind.REFUND:
        return left
    refunds = [entry for entry in takings if entry.business_key.startswith(REFUND_KEY)]
    of_charge = f"{reversal.business_key.rpartition(':')[0]}:"
    keys = [entry.business_key for entry in refunds if entry.business_key.startswith(of_charge)]
    return max(map(_running_total, (reversal.business_key, *keys))) - _taken(refunds)


def _running_total(business_key: str) -> int:
    return int(business_key.rpartition(":")[2]) * MICRODOLLARS_PER_CENT


def _place(reversal: Reversal) -> tuple[bool, int, str]:
    is_refund = reversal.kind is EntryKind.REFUND
    return (not is_refund, _running_total(reversal.business_key) if is_refund else 0, reversal.business_key)
