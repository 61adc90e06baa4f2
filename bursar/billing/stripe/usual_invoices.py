"""Events of invoices in the shape that Stripe gives them today, read at half the cost of the views: what they hold is
most of a renewal's message, and four fifths of it nobody asks for. docs/decisions, 0027.

Whatever differs, older versions and what was expanded included, is left to the views, which say the same of all that
is read here.
"""

from typing import Annotated

from msgspec import Meta, MsgspecError
from msgspec.json import Decoder

from bursar.billing.calendar import from_unix
from bursar.billing.stripe.invoices import Invoice, InvoiceEvent, InvoiceLine, SubscriptionOfInvoice
from bursar.billing.values import Value

Seconds = Annotated[int, Meta(ge=0, le=20_000_000_000)]  # to the year 2603; the views take more for milliseconds
Cents = Annotated[int, Meta(ge=0, le=1 << 53)]


class _Details(Value):
    subscription: str
    metadata: dict[str, str] | None = None


class _Parent(Value):
    subscription_details: _Details | None = None


class _Period(Value):
    start: Seconds
    end: Seconds


class _PriceDetails(Value):
    price: str


class _Pricing(Value):
    price_details: _PriceDetails


class _ItemDetails(Value):
    subscription: str


class _ParentOfLine(Value):
    subscription_item_details: _ItemDetails


class _Line(Value):
    period: _Period
    pricing: _Pricing
    parent: _ParentOfLine


class _Lines(Value):
    data: tuple[_Line, ...]


class _Transitions(Value):
    paid_at: Seconds | None = None


class _Invoice(Value):
    id: str
    lines: _Lines
    amount_paid: Cents
    currency: str
    customer: str | None = None
    parent: _Parent | None = None
    metadata: dict[str, str] | None = None
    # What the decisions do not ask for is looked at all the same: what the views refuse is refused.
    status: str | None = None
    amount_due: Cents = 0
    status_transitions: _Transitions | None = None
    # Where older versions said it, and what is shown only when asked for.
    subscription: None = None
    subscription_details: None = None
    charge: None = None
    payments: None = None


class _Data(Value):
    object: _Invoice


class _Event(Value):
    id: str
    type: str
    created: Seconds
    data: _Data


_events = Decoder(_Event)


def usual_invoice_event(body: bytes) -> InvoiceEvent | None:
    """The event of that body; None for one that is for the views to read."""
    try:
        if not body.isascii():
            body.decode()  # msgspec looks only at the texts that it reads
        event = _events.decode(body)
    except (MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    said = event.data.object
    details = said.parent.subscription_details if said.parent else None
    invoice = Invoice(
        said.id,
        said.customer,
        said.metadata or {},
        SubscriptionOfInvoice(details.subscription, details.metadata or {}) if details else None,
        tuple([_line(one) for one in said.lines.data]),
        said.amount_paid,
        said.currency,
        None,
    )
    return InvoiceEvent(event.id, event.type, from_unix(event.created), invoice)


def _line(line: _Line) -> InvoiceLine:
    return InvoiceLine(
        line.pricing.price_details.price,
        from_unix(line.period.start),
        from_unix(line.period.end),
        line.parent.subscription_item_details.subscription,
    )
