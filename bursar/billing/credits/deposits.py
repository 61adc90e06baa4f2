"""Money that comes in: top-ups (CR-10). Parts: Credits."""

from bursar.billing.account import Account, user_id_of
from bursar.billing.credits.ledger import Entry, EntryKind, credits_of, with_entry
from bursar.billing.credits.payments import PaidInvoiceEvent, PaymentEvent, in_microdollars, is_top_up
from bursar.billing.decision import Decision
from bursar.billing.errors import Retryable


def payment_succeeded(account: Account, event: PaymentEvent) -> Decision:
    """`payment_intent.succeeded`: a deposit, where it is a top-up's."""
    payment = event.payment
    if not is_top_up(payment.metadata):
        return Decision.nothing(account, "foreign")
    return _deposit(account, payment.id, in_microdollars(payment.amount_received, payment.currency), event.id)


def top_up_invoice_paid(account: Account, event: PaidInvoiceEvent) -> Decision:
    """`invoice.paid` of a top-up: a deposit under the payment's id, so that its own event adds nothing."""
    invoice = event.invoice
    return _deposit(account, invoice.payment_id, in_microdollars(invoice.amount_paid, invoice.currency), event.id)


def top_up_deposited(account: Account, payment_id: str, amount_microdollars: int, cause: str) -> Decision:
    """A payment that a step of ours made: a deposit under its id, so that its own event adds nothing."""
    return _deposit(account, payment_id, amount_microdollars, cause)


def _deposit(account: Account, payment_id: str, amount: int, cause: str) -> Decision:
    """CR-10: once per payment, whatever event brings it. Raises Retryable while nobody knows whose it is: money is
    never dropped in silence (MS-6).
    """
    business_key = f"deposit:{payment_id}"
    if amount == 0 or credits_of(account).has(business_key):
        return Decision.nothing(account, "nothing_to_deposit")
    if user_id_of(account.key) is None:
        raise Retryable("a top-up of a customer that no user has")
    entry = Entry(
        kind=EntryKind.DEPOSIT,
        amount_microdollars=amount,
        description="Credit top-up",
        business_key=business_key,
        cause=cause,
        payment_id=payment_id,
    )
    return Decision(with_entry(account, entry), reason="topped up", counts={"deposited": 1})
