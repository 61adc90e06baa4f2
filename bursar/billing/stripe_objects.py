"""The parts of Stripe's objects that our rules read, as API version 2026-08-26.dahlia shapes them.

Unknown fields are ignored; a missing one that a rule needs makes the message unreadable (KC-36), never silently
nothing.
"""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AliasPath, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

API_VERSION = "2026-08-26.dahlia"


def _identifier(value: Any) -> Any:  # noqa: ANN401 - Stripe sends an id, or the object itself where expanded
    return value.get("id") if isinstance(value, dict) else value


Id = Annotated[str, BeforeValidator(_identifier)]
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


class SubscriptionOfInvoice(StripeObject):
    """`parent.subscription_details` of an invoice."""

    subscription: Id
    metadata: Metadata = Field(default_factory=dict)


class StripeInvoice(StripeObject):
    """An invoice: whose it is, the subscription it names (KC-39), and how it stands. Amounts are in cents."""

    id: str
    customer: Id | None = None
    status: str | None = None
    metadata: Metadata = Field(default_factory=dict)
    amount_due: int = 0
    amount_paid: int = 0
    of_subscription: Annotated[
        SubscriptionOfInvoice | None, Field(validation_alias=AliasPath("parent", "subscription_details"))
    ] = None


class SubscriptionEvent(StripeObject):
    """`customer.subscription.*`; `created` has whole seconds and often ties (KC-32)."""

    id: str
    type: str
    created: datetime
    subscription: Annotated[StripeSubscription, Field(validation_alias=AliasPath("data", "object"))]


class InvoiceEvent(StripeObject):
    """`invoice.paid` and `invoice.payment_failed`."""

    id: str
    type: str
    created: datetime
    invoice: Annotated[StripeInvoice, Field(validation_alias=AliasPath("data", "object"))]
