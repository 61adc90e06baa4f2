"""Stripe-funded settlement: what an invoice paid is deposited and charged at once; its row follows (CR-50…CR-57)."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from bursar.billing.account import Account
from bursar.billing.catalogue import Catalogue
from bursar.billing.credits.ledger import (
    MICRODOLLARS_PER_CENT,
    OLD_SETTLEMENT,
    Entry,
    EntryKind,
    credits_of,
    with_settlement,
)
from bursar.billing.decision import Decision
from bursar.billing.errors import UnreadableMessage
from bursar.billing.kiloclaw.following import DUNNING, differs
from bursar.billing.kiloclaw.row_changes import with_row
from bursar.billing.kiloclaw.rows import PaidPeriod, Subscription
from bursar.billing.kiloclaw.scheduling import is_out_of_step, keep_steps
from bursar.billing.kiloclaw.suspension import start_again
from bursar.billing.stripe.invoices import Invoice, InvoiceLine
from bursar.billing.values import Value, replace

CURRENCY = "usd"
INVOICE_PREFIX = "in_"  # Stripe's, of invoice ids


class Posting(StrEnum):
    """What settling a payment does to the ledger; the names are counted."""

    NEW = "settled"
    ZERO = "settled_without_payment"  # CR-52
    REPEATED = "settled_before"  # CR-53, and CR-54 where the old entries fit
    UNMATCHED = "settlement_unmatched"  # CR-54: operators are alerted


class Settlement(Value):
    """A paid invoice of the row's subscription: what it says, when it was paid, and the event that told."""

    paid: PaidPeriod
    paid_at: datetime
    cause: str


def paid_period(invoice: Invoice, subscription_id: str, catalogue: Catalogue) -> PaidPeriod:
    """What settling needs of a paid invoice; UnreadableMessage where it does not say it (CR-57)."""
    if invoice.amount_paid is None or invoice.currency != CURRENCY:
        raise UnreadableMessage(f"invoice {invoice.id}: no amount paid in {CURRENCY}")
    candidates = [
        period
        for line in invoice.lines
        if line.subscription in (None, subscription_id)
        and (period := _period_of(invoice, invoice.amount_paid, line, catalogue))
    ]
    if not candidates:
        raise UnreadableMessage(f"invoice {invoice.id}: no line with a period and a price that are known")
    return max(candidates, key=lambda one: one.ends_at)


def payments_of(invoice: Invoice) -> frozenset[str]:
    """What the payment of an invoice may be known by in the ledger: all that settling asks it for, beside the old
    settlements.
    """
    return frozenset(one for one in (invoice.charge_id, invoice.id) if one)


def settle(account: Account, row: Subscription, settlement: Settlement, catalogue: Catalogue) -> Decision:
    """Deposit and charge what was paid, and bring the row forward, in one decision (CR-51). Parts: Hosting, Credits.

    The row is bound to the invoice's subscription.
    """
    posting = _posting(account, row.stripe_subscription_id or "", settlement.paid)
    posted = _posted(account, posting, settlement)
    moved = _brought_forward(row, settlement, is_new=posting in (Posting.NEW, Posting.UNMATCHED))
    if not differs(row, moved):
        return posted
    after = replace(row, **moved, version=row.version + 1)
    saved = with_row(posted.account, after)
    began_to_cover = after.status == "active" and (row.suspended_at or row.settled_at is None)
    out_of_step = is_out_of_step(row, after, after.stripe_schedule_id)
    return Decision(
        start_again(saved) if began_to_cover else saved,
        keep_steps(saved, after, catalogue) if out_of_step else (),
        reason=f"invoice {settlement.paid.invoice_id} settled",
        counts=posted.counts,
    )


def settle_apart(account: Account, subscription_id: str, settlement: Settlement) -> Decision:
    """Likewise for a subscription whose place at the row another has taken: the payment is kept, the row is not its."""
    return _posted(account, _posting(account, subscription_id, settlement.paid), settlement)


def is_uncertain(before: Subscription, after: Subscription, paid_at: datetime) -> bool:
    """Whether Stripe is to be asked how the subscription stands: the payment is older than what the row was told since,
    or came for a row that has ended (KC-32).
    """
    if before.status not in DUNNING:
        return before.status == "canceled"
    told_at = before.last_stripe_event_at
    return after.status in DUNNING or (told_at is not None and told_at > paid_at)


def _period_of(invoice: Invoice, amount_cents: int, line: InvoiceLine, catalogue: Catalogue) -> PaidPeriod | None:
    plan = catalogue.prices.plan_of(line.price) if line.price else None
    if plan is None or line.period_start is None or line.period_end is None:
        return None
    if line.period_end <= line.period_start:
        return None
    return PaidPeriod(
        invoice_id=invoice.id,
        charge_id=invoice.charge_id,
        amount_cents=amount_cents,
        plan=plan,
        starts_at=line.period_start,
        ends_at=line.period_end,
    )


def _posting(account: Account, subscription_id: str, paid: PaidPeriod) -> Posting:
    if paid.amount_cents == 0:
        return Posting.ZERO
    known_as = {one for one in (paid.charge_id, paid.invoice_id) if one}
    if any(one.business_key == _key(one.payment_id or "") for one in credits_of(account).of_payment(known_as)):
        return Posting.REPEATED
    return _beside_old_entries(account, subscription_id, paid, known_as)


def _beside_old_entries(account: Account, subscription_id: str, paid: PaidPeriod, known_as: set[str]) -> Posting:
    """CR-54. Old entries of a period bear its key, `kiloclaw-settlement:{sub}:{yyyy-mm-dd}`, alone or with more after a
    colon; one deposit and one charge of one amount explain each other. An invoice that does not show its charge cannot
    be told from an old deposit that is known by one.
    """
    credit = credits_of(account)
    of_period = credit.old_settlements(f"{OLD_SETTLEMENT}{subscription_id}:{paid.starts_at.date().isoformat()}")
    own = [one for one in credit.of_payment(known_as) if one.amount_microdollars > 0]
    own = [one for one in own if one in of_period or not one.business_key.startswith(OLD_SETTLEMENT)]
    if not of_period and not own:
        return Posting.NEW
    deposits = {one.business_key: one for one in (*of_period, *own) if one.amount_microdollars > 0}
    charges = [one for one in of_period if one.amount_microdollars < 0]
    left_over = sum(one.amount_microdollars for one in (*deposits.values(), *charges))
    if (len(deposits), len(charges), left_over) != (1, 1, 0):
        return Posting.UNMATCHED
    if own:
        return Posting.REPEATED
    (deposit,) = deposits.values()
    is_another = paid.charge_id or (deposit.payment_id or "").startswith(INVOICE_PREFIX)
    return Posting.NEW if is_another else Posting.UNMATCHED


def _brought_forward(row: Subscription, settlement: Settlement, *, is_new: bool) -> dict[str, Any]:
    """CR-55: what the payment changes of the row. A payment for an earlier period leaves the later one; one that came
    before the dunning began does not end it; nothing brings an ended row back.
    """
    paid, paid_at = settlement.paid, settlement.paid_at
    is_first = row.settled_at is None
    is_next = is_first or row.current_period_end is None or paid.ends_at > row.current_period_end
    is_late = row.current_period_end is not None and paid.ends_at < row.current_period_end and not is_first
    if is_late or not (is_next or is_new):
        return {}
    moved = {"settled_at": _later(row.settled_at, paid_at)} | (_in_period(row, paid) if is_next else {})
    if row.status == "canceled":
        return moved | {"credit_renewal_at": None}
    if row.past_due_since and row.past_due_since > paid_at:
        return moved
    return moved | {"status": "active", "past_due_since": None, "suspended_at": None, "destruction_deadline": None}


def _in_period(row: Subscription, paid: PaidPeriod) -> dict[str, Any]:
    """The plan is the invoice's (CR-56); what is scheduled has arrived with it (KC-45)."""
    arrived = row.scheduled_plan == paid.plan
    return {
        "plan": paid.plan,
        "payment_source": "credits",
        "current_period_start": paid.starts_at,
        "current_period_end": paid.ends_at,
        "credit_renewal_at": paid.ends_at,
        "commit_ends_at": row.commit_ends_at if paid.plan == "commit" else None,
        "scheduled_plan": None if arrived else row.scheduled_plan,
        "scheduled_by": None if arrived else row.scheduled_by,
    }


def _posted(account: Account, posting: Posting, settlement: Settlement) -> Decision:
    posted = _with_pair(account, settlement) if posting is Posting.NEW else account
    return Decision(posted, reason=f"invoice {settlement.paid.invoice_id} paid", counts={posting: 1})


def _with_pair(account: Account, settlement: Settlement) -> Account:
    paid = settlement.paid
    amount, key = paid.amount_cents * MICRODOLLARS_PER_CENT, _key(paid.payment_id)
    deposit = Entry(
        kind=EntryKind.SETTLEMENT_DEPOSIT,
        amount_microdollars=amount,
        description=f"KiloClaw hosting, {paid.plan} plan, invoice {paid.invoice_id}",
        business_key=key,
        cause=settlement.cause,
        payment_id=paid.payment_id,
    )
    charge = Entry(
        kind=EntryKind.SETTLEMENT_CHARGE,
        amount_microdollars=-amount,
        description=deposit.description,
        business_key=f"{key}:charge",
        cause=settlement.cause,
        payment_id=deposit.payment_id,
    )
    return with_settlement(account, deposit, charge)


def _key(payment_id: str) -> str:
    return f"settlement:{payment_id}"


def _later(one: datetime | None, other: datetime) -> datetime:
    return max(one, other) if one else other
