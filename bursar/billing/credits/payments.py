"""The parts of Stripe's payments that deposits and withdrawals read (CR-10, CR-11). Amounts are in cents."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import AliasPath, Field, NonNegativeInt

from bursar.billing.credits.ledger import MICRODOLLARS_PER_CENT
from bursar.billing.errors import UnreadableMessage
from bursar.billing.stripe.objects import Id, StripeObject

CURRENCY = "usd"
TOP_UP = "credit_topup"  # `metadata.type` of a payment that tops up
Object = AliasPath("data", "object")


def is_top_up(metadata: Mapping[str, Any]) -> bool:
    """Whether a payment's or an invoice's metadata say that it tops up a credit account."""
    return metadata.get("type") == TOP_UP


def in_microdollars(cents: int, currency: str) -> int:
    """UnreadableMessage for another currency: it is parked, never guessed."""
    if currency != CURRENCY:
        raise UnreadableMessage(f"a payment in {currency[:8]!r}, not in {CURRENCY!r}")
    return cents * MICRODOLLARS_PER_CENT


class PaymentIntent(StripeObject):
    """A payment that succeeded."""

    id: str
    amount_received: NonNegativeInt
    currency: str
    metadata: dict[str, str] = Field(default_factory=dict)


class PaidWith(StripeObject):
    """How an invoice was paid, where Stripe shows it."""

    payment_intent: Annotated[Id | None, Field(validation_alias=AliasPath("payment", "payment_intent"))] = None
    charge: Annotated[Id | None, Field(validation_alias=AliasPath("payment", "charge"))] = None


class PaidInvoice(StripeObject):
    """A paid invoice of a top-up. Older API versions name its payment on the invoice itself."""

    id: str
    amount_paid: NonNegativeInt
    currency: str
    metadata: dict[str, str] = Field(default_factory=dict)
    payment_intent: Id | None = None
    charge: Id | None = None
    payments: Annotated[tuple[PaidWith, ...], Field(validation_alias=AliasPath("payments", "data"))] = ()

    @property
    def payment_id(self) -> str:
        """What the deposit is keyed by: the payment, else the invoice itself (CR-10)."""
        shown = [self.payment_intent, self.charge]
        shown += [one for paid in self.payments for one in (paid.payment_intent, paid.charge)]
        return next((one for one in shown if one), self.id)


class Charge(StripeObject):
    """A charge and how much of it was refunded so far: a refund's own id is not on it."""

    id: str
    amount: NonNegativeInt
    amount_refunded: NonNegativeInt
    currency: str
    payment_intent: Id | None = None
    invoice: Id | None = None
    metadata: dict[str, str] = Field(default_factory=dict)

    @property
    def payment_ids(self) -> tuple[str, ...]:
        """What its payment may be known by, the likeliest first."""
        return tuple(one for one in (self.payment_intent, self.id, self.invoice) if one)


class Dispute(StripeObject):
    """A dispute. It names neither the customer nor the user."""

    id: str
    amount: NonNegativeInt
    currency: str
    status: str
    charge: Id | None = None
    payment_intent: Id | None = None

    @property
    def payment_ids(self) -> tuple[str, ...]:
        """What its payment may be known by, the likeliest first."""
        return tuple(one for one in (self.payment_intent, self.charge) if one)


class PaymentEvent(StripeObject):
    """`payment_intent.succeeded`."""

    id: str
    payment: Annotated[PaymentIntent, Field(validation_alias=Object)]


class PaidInvoiceEvent(StripeObject):
    """`invoice.paid` of a top-up."""

    id: str
    invoice: Annotated[PaidInvoice, Field(validation_alias=Object)]


class ChargeEvent(StripeObject):
    """`charge.refunded`. `refunded_before` is the running total before this refund, in cents, where Stripe says it."""

    id: str
    created: datetime
    charge: Annotated[Charge, Field(validation_alias=Object)]
    refunded_before: Annotated[
        NonNegativeInt | None, Field(validation_alias=AliasPath("data", "previous_attributes", "amount_refunded"))
    ] = None


class DisputeEvent(StripeObject):
    """`charge.dispute.closed`."""

    id: str
    created: datetime
    dispute: Annotated[Dispute, Field(validation_alias=Object)]
