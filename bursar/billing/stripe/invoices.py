"""What our rules read of an invoice, whether an event or Stripe's answer brought it. Amounts are in cents."""

from collections.abc import Mapping
from datetime import datetime

from bursar.billing.values import Value


class SubscriptionOfInvoice(Value):
    """What an invoice says of the subscription that it bills."""

    subscription: str
    metadata: Mapping[str, str]


class InvoiceLine(Value):
    """What an invoice bills: a price for a period; None where that cannot be read."""

    price: str | None
    period_start: datetime | None
    period_end: datetime | None
    subscription: str | None


class Invoice(Value):
    """Whose it is, the subscription it names (KC-39), what it bills, and what was paid; instants in UTC."""

    id: str
    customer: str | None
    metadata: Mapping[str, str]
    of_subscription: SubscriptionOfInvoice | None
    lines: tuple[InvoiceLine, ...]
    amount_paid: int | None
    currency: str | None
    charge_id: str | None


class InvoiceEvent(Value):
    """`invoice.paid` and `invoice.payment_failed`."""

    id: str
    type: str
    created: datetime
    invoice: Invoice
