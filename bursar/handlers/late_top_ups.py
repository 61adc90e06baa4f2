"""What the payments of deleted users still cause: a top-up's goes back, any other is none of our business (KC-121)."""

from typing import Any

from bursar.billing.account import Account
from bursar.billing.credits.late_top_ups import give_back
from bursar.billing.credits.payments import PaidInvoiceEvent, PaymentEvent
from bursar.billing.decision import Decision
from bursar.handlers.credits import is_of_top_up
from bursar.handlers.reading import view


def late_payment(account: Account, body: Any) -> Decision:  # noqa: ANN401 - parsed JSON
    """`payment_intent.succeeded`."""
    if not is_of_top_up(body):
        return _nothing(account)
    payment = view(PaymentEvent, body).payment
    return give_back(account, payment.id) if payment.amount_received else _nothing(account)


def late_invoice(account: Account, body: Any) -> Decision:  # noqa: ANN401 - parsed JSON
    """`invoice.paid`; a subscription's is ended with its subscription (KC-120)."""
    if not is_of_top_up(body):
        return _nothing(account)
    invoice = view(PaidInvoiceEvent, body).invoice
    return give_back(account, invoice.payment_id) if invoice.amount_paid else _nothing(account)


def _nothing(account: Account) -> Decision:
    return Decision.nothing(account, "deleted_user")
