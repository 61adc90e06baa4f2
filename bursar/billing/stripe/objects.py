"""The parts of Stripe's objects that our rules read, as API version 2026-08-26.dahlia shapes them.

Unknown fields are ignored; a missing one that a rule needs makes the message unreadable (KC-36), never silently
nothing.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    model_validator,
)
from pydantic_core import CoreSchema
from pydantic_core.core_schema import with_default_schema

from bursar.billing.calendar import in_utc
from bursar.billing.stripe.invoices import Invoice, InvoiceEvent, InvoiceLine, SubscriptionOfInvoice
from bursar.billing.values import Value

API_VERSION = "2026-08-26.dahlia"


def _identifier(value: Any) -> Any:  # noqa: ANN401 - Stripe sends an id, or the object itself where expanded
    return value.get("id") if isinstance(value, dict) else value


def _utc(instant: datetime) -> datetime:
    try:
        return in_utc(instant)
    except OverflowError:
        raise ValueError("no such instant in UTC") from None


class _IfReadable(Value):
    """What stands in the place of a value that cannot be read, whatever its validators raise. Pydantic's core does it
    without a call of ours.
    """

    instead: Any

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401
        return with_default_schema(handler(source), default=self.instead, on_error="default")


Id = Annotated[str, BeforeValidator(_identifier)]
# What only some need of an invoice: who does says that it cannot be read, and nobody else's is stopped (CR-57).
IdIfReadable = Annotated[Id | None, _IfReadable(None)]
Instant = Annotated[AwareDatetime, AfterValidator(_utc)]
InstantIfReadable = Annotated[Instant | None, _IfReadable(None)]
# Stripe has null for "none" on most objects.
Metadata = Annotated[dict[str, str], BeforeValidator(lambda value: {} if value is None else value)]


class StripeObject(BaseModel):
    """Base of the views: frozen, tolerant of what is not known."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class SubscriptionItem(StripeObject):
    """One priced item; since 2025 the period's bounds stand here (KC-36)."""

    price: Id
    current_period_start: datetime
    current_period_end: datetime
    quantity: int = 1


class StripeSubscription(StripeObject):
    """A subscription. `metadata.type` says whose it is."""

    id: str
    status: str
    customer: Id | None = None
    metadata: Metadata = Field(default_factory=dict)
    items: Annotated[tuple[SubscriptionItem, ...], Field(min_length=1)]
    cancel_at_period_end: bool = False
    cancel_at: datetime | None = None
    ended_at: datetime | None = None
    created: datetime | None = None
    schedule: Id | None = None
    trial_end: datetime | None = None
    discounts: tuple[Id, ...] = ()
    latest_invoice: Id | None = None
    default_payment_method: Id | None = None

    @model_validator(mode="before")
    @classmethod
    def _items_with_periods(cls, raw: Any) -> Any:  # noqa: ANN401 - a JSON value before validation
        """Unwrap Stripe's list; older API versions have the period on the subscription itself (KC-36)."""
        if not isinstance(raw, dict) or not isinstance(raw.get("items"), dict):
            return raw
        period = {name: raw[name] for name in ("current_period_start", "current_period_end") if name in raw}
        items = raw["items"].get("data") or ()
        return {**raw, "items": [{**period, **item} for item in items] if period else items}

    @property
    def is_kiloclaw(self) -> bool:
        """Only these are ours (KC-30…)."""
        return self.metadata.get("type") == "kiloclaw"


def subscription_details(invoice: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a JSON value before validation
    """What a raw invoice says of its subscription, in `parent`; before 2025 it stood on the invoice itself (KC-36)."""
    parent = invoice.get("parent")
    details = parent.get("subscription_details") if isinstance(parent, Mapping) else None
    if details or not invoice.get("subscription"):
        return details
    older = invoice.get("subscription_details")
    return {**(older if isinstance(older, Mapping) else {}), "subscription": invoice["subscription"]}


class StripeDetails(StripeObject):
    """What an invoice says of the subscription that it bills."""

    subscription: Id
    metadata: Metadata = Field(default_factory=dict)


class StripeLine(StripeObject):
    """What an invoice bills: a price for a period. Older API versions name both on the line itself."""

    price: Annotated[
        IdIfReadable, Field(validation_alias=AliasChoices(AliasPath("pricing", "price_details", "price"), "price"))
    ] = None
    period_start: Annotated[InstantIfReadable, Field(validation_alias=AliasPath("period", "start"))] = None
    period_end: Annotated[InstantIfReadable, Field(validation_alias=AliasPath("period", "end"))] = None
    subscription: Annotated[
        IdIfReadable,
        Field(
            validation_alias=AliasChoices(
                AliasPath("parent", "subscription_item_details", "subscription"), "subscription"
            )
        ),
    ] = None

    def read(self) -> InvoiceLine:
        """What our rules read of it."""
        return InvoiceLine(self.price, self.period_start, self.period_end, self.subscription)


class StripePayment(StripeObject):
    """One payment of an invoice, shown where a request asked for it."""

    charge: Annotated[IdIfReadable, Field(validation_alias=AliasPath("payment", "charge"))] = None


class StripeInvoice(StripeObject):
    """An invoice: whose it is, the subscription it names (KC-39), how it stands, what it bills. Amounts in cents.

    Since 2025 an invoice does not name its charge, unless its payments are shown.
    """

    id: str
    customer: Id | None = None
    status: str | None = None
    metadata: Metadata = Field(default_factory=dict)
    amount_due: int = 0
    amount_paid: int = 0
    paid_at: Annotated[InstantIfReadable, Field(validation_alias=AliasPath("status_transitions", "paid_at"))] = None
    in_parent: Annotated[StripeDetails | None, Field(validation_alias=AliasPath("parent", "subscription_details"))] = (
        None
    )
    subscription: Id | None = None
    subscription_metadata: Annotated[
        Metadata, Field(validation_alias=AliasPath("subscription_details", "metadata"))
    ] = Field(default_factory=dict)
    currency: str | None = None
    lines: Annotated[
        tuple[StripeLine, ...],
        _IfReadable(()),
        Field(validation_alias=AliasChoices(AliasPath("lines", "data"), "lines")),
    ] = ()
    charge: IdIfReadable = None
    payments: Annotated[
        tuple[StripePayment, ...],
        _IfReadable(()),
        Field(validation_alias=AliasChoices(AliasPath("payments", "data"), "payments")),
    ] = ()

    def read(self) -> Invoice:
        """What our rules read of it."""
        return Invoice(
            id=self.id,
            customer=self.customer,
            metadata=self.metadata,
            of_subscription=self._of_subscription(),
            lines=tuple(one.read() for one in self.lines),
            amount_paid=self.amount_paid if "amount_paid" in self.model_fields_set else None,
            currency=self.currency,
            charge_id=self.charge or next((one.charge for one in self.payments if one.charge), None),
        )

    def _of_subscription(self) -> SubscriptionOfInvoice | None:
        """In `parent`; before 2025 on the invoice itself (KC-36)."""
        if self.in_parent:
            return SubscriptionOfInvoice(self.in_parent.subscription, self.in_parent.metadata)
        return SubscriptionOfInvoice(self.subscription, self.subscription_metadata) if self.subscription else None


class SubscriptionEvent(StripeObject):
    """`customer.subscription.*`; `created` has whole seconds and often ties (KC-32)."""

    id: str
    type: str
    created: datetime
    subscription: Annotated[StripeSubscription, Field(validation_alias=AliasPath("data", "object"))]


class StripeInvoiceEvent(StripeObject):
    """`invoice.paid` and `invoice.payment_failed`."""

    id: str
    type: str
    created: Instant
    invoice: Annotated[StripeInvoice, Field(validation_alias=AliasPath("data", "object"))]

    def read(self) -> InvoiceEvent:
        """What our rules read of it."""
        return InvoiceEvent(self.id, self.type, self.created, self.invoice.read())
