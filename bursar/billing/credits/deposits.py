"""Money that comes in and goes back: top-ups, refunds, lost disputes (CR-10, CR-11). Parts: Credits."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from bursar.billing.account import Account, user_id_of
from bursar.billing.credits.ledger import (
    MICRODOLLARS_PER_CENT,
    Credits,
    EarlyDispute,
    Entry,
    EntryKind,
    credits_of,
    with_entry,
    with_settlement,
)
from bursar.billing.credits.payments import ChargeEvent, DisputeEvent, PaidInvoiceEvent, PaymentEvent, is_top_up
from bursar.billing.decision import Decision
from bursar.billing.errors import UnreadableMessage

CURRENCY = "usd"
LOST = "lost"
REFUND_KEY = "refund:"
ACQUIRING = (EntryKind.DEPOSIT, EntryKind.SETTLEMENT_DEPOSIT)
TAKING = (EntryKind.REFUND, EntryKind.DISPUTE, EntryKind.SETTLEMENT_DEPOSIT)


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What left us of a payment, in microdollars: `amount` by this, of `paid` in all.

    `payment_id` is what the ledger knows the payment by; `settled` is true for one that was spent on hosting at once.
    """

    kind: EntryKind
    business_key: str
    amount: int
    paid: int
    payment_id: str
    settled: bool
    cause: str


def payment_succeeded(account: Account, event: PaymentEvent) -> Decision:
    """`payment_intent.succeeded`: a deposit, where it is a top-up's."""
    payment = event.payment
    if not is_top_up(payment.metadata):
        return Decision.nothing(account, "foreign")
    return _deposit(account, payment.id, _microdollars(payment.amount_received, payment.currency), event.id)


def top_up_invoice_paid(account: Account, event: PaidInvoiceEvent) -> Decision:
    """`invoice.paid` of a top-up: a deposit under the payment's id, so that its own event adds nothing."""
    invoice = event.invoice
    return _deposit(account, invoice.payment_id, _microdollars(invoice.amount_paid, invoice.currency), event.id)


def top_up_deposited(account: Account, payment_id: str, amount_microdollars: int, cause: str) -> Decision:
    """A payment that a step of ours made: a deposit under its id, so that its own event adds nothing."""
    return _deposit(account, payment_id, amount_microdollars, cause)


def charge_refunded(account: Account, event: ChargeEvent) -> Decision:
    """`charge.refunded`: withdraw what was refunded since, by the running total that the charge carries.

    The event does not name the refund, and may come before the deposit: the total makes its order and its
    repetition harmless.
    """
    charge = event.charge
    known = _known_payment(credits_of(account), charge.payment_ids)
    if user_id_of(account.key) is None or not (known or is_top_up(charge.metadata)):
        return Decision.nothing(account, "foreign")
    payment_id = str(known.payment_id) if known else charge.payment_ids[0]
    paid = known.amount_microdollars if known else _microdollars(charge.amount, charge.currency)
    total = min(_microdollars(charge.amount_refunded, charge.currency), paid)
    so_far = sum(_taken(one) for one in _takings(account, payment_id) if one.business_key.startswith(REFUND_KEY))
    return _take_back(
        account,
        TakenBack(
            kind=EntryKind.REFUND,
            business_key=f"{REFUND_KEY}{charge.id}:{charge.amount_refunded}",
            amount=total - so_far,
            paid=paid,
            payment_id=payment_id,
            settled=_is_settled(known),
            cause=event.id,
        ),
    )


def dispute_closed(account: Account, event: DisputeEvent) -> Decision:
    """`charge.dispute.closed`: a lost one withdraws its amount, or waits for the deposit of its payment."""
    dispute, credit = event.dispute, credits_of(account)
    if dispute.status != LOST or not dispute.payment_ids or dispute.amount == 0:
        return Decision.nothing(account, "noted")
    known = _known_payment(credit, dispute.payment_ids)
    if known is None and dispute.currency != CURRENCY:
        return Decision.nothing(account, "foreign")
    lost = EarlyDispute(
        dispute_id=dispute.id,
        payment_id=dispute.payment_ids[0],
        amount_microdollars=_microdollars(dispute.amount, dispute.currency),
        cause=event.id,
    )
    if known:
        return _take_back(account, _lost(known, lost))
    waiting = replace(credit, early_disputes=(*credit.early_disputes, lost))
    return Decision(account.having(waiting), counts={"remembered": 1})


def with_early_disputes(account: Account, disputes: Iterable[EarlyDispute]) -> Account:
    """The account after disputes that were lost before their payment was deposited."""
    for dispute in disputes:
        known = _known_payment(credits_of(account), (dispute.payment_id,))
        account = _take_back(account, _lost(known, dispute)).account if known else account
    return account


def _lost(known: Entry, dispute: EarlyDispute) -> TakenBack:
    return TakenBack(
        kind=EntryKind.DISPUTE,
        business_key=f"dispute:{dispute.dispute_id}",
        amount=dispute.amount_microdollars,
        paid=known.amount_microdollars,
        payment_id=str(known.payment_id),
        settled=_is_settled(known),
        cause=dispute.cause,
    )


def _deposit(account: Account, payment_id: str, amount: int, cause: str) -> Decision:
    """CR-10: once per payment, whatever event brings it."""
    business_key = f"deposit:{payment_id}"
    if user_id_of(account.key) is None:
        return Decision.nothing(account, "unknown_user")
    if amount == 0 or credits_of(account).has(business_key):
        return Decision.nothing(account, "nothing_to_deposit")
    entry = Entry(
        kind=EntryKind.DEPOSIT,
        amount_microdollars=amount,
        description="Credit top-up",
        business_key=business_key,
        cause=cause,
        payment_id=payment_id,
    )
    return Decision(with_entry(account, entry), reason="topped up", counts={"deposited": 1})


def _take_back(account: Account, taken: TakenBack) -> Decision:
    """CR-11: each once, all together never more than the payment; what was spent on hosting goes as a neutral pair."""
    left = taken.paid - sum(map(_taken, _takings(account, taken.payment_id)))
    amount = min(taken.amount, left)
    if amount <= 0 or credits_of(account).has(taken.business_key):
        return Decision.nothing(account, "nothing_to_take_back")
    if not taken.settled:
        withdrawn = with_entry(account, _withdrawal(taken, taken.kind, -amount, taken.business_key))
        return Decision(withdrawn, reason=f"{taken.kind} of a top-up", counts={"withdrawn": 1})
    deposit = _withdrawal(taken, EntryKind.SETTLEMENT_DEPOSIT, -amount, taken.business_key)
    charge = _withdrawal(taken, EntryKind.SETTLEMENT_CHARGE, amount, f"{taken.business_key}:charge")
    return Decision(
        with_settlement(account, deposit, charge), reason=f"{taken.kind} of a settled invoice", counts={"reversed": 1}
    )


def _withdrawal(taken: TakenBack, kind: EntryKind, amount: int, business_key: str) -> Entry:
    return Entry(
        kind=kind,
        amount_microdollars=amount,
        description="Refund" if taken.kind is EntryKind.REFUND else "Lost dispute",
        business_key=business_key,
        cause=taken.cause,
        payment_id=taken.payment_id,
    )


def _known_payment(credit: Credits, payment_ids: tuple[str, ...]) -> Entry | None:
    """The entry that the payment brought, a top-up's deposit or a settled invoice's."""
    brought = credit.of_payment(payment_ids, *ACQUIRING)
    return next((entry for entry in brought if entry.amount_microdollars > 0), None)


def _takings(account: Account, payment_id: str) -> tuple[Entry, ...]:
    entries = credits_of(account).of_payment((payment_id,), *TAKING)
    return tuple(entry for entry in entries if entry.amount_microdollars < 0)


def _taken(entry: Entry) -> int:
    return -entry.amount_microdollars


def _is_settled(known: Entry | None) -> bool:
    return known is not None and known.kind is EntryKind.SETTLEMENT_DEPOSIT


def _microdollars(cents: int, currency: str) -> int:
    """UnreadableMessage for another currency: it is parked, never guessed."""
    if currency != CURRENCY:
        raise UnreadableMessage(f"a payment in {currency[:8]!r}, not in {CURRENCY!r}")
    return cents * MICRODOLLARS_PER_CENT
