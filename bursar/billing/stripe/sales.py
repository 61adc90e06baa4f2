"""What Stripe sells with: customers, checkout sessions, the billing portal, single payments; as far as we read them."""

from typing import Annotated

from pydantic import AliasPath, Field

from bursar.billing.stripe.objects import Id, Metadata, StripeObject


class StripeCustomer(StripeObject):
    """A customer; `metadata.userId` is our user. `default_payment_method` pays its invoices."""

    id: str
    metadata: Metadata = Field(default_factory=dict)
    default_payment_method: Annotated[
        Id | None, Field(validation_alias=AliasPath("invoice_settings", "default_payment_method"))
    ] = None


class CheckoutSession(StripeObject):
    """A page on which the customer pays. `url` only while it is open."""

    id: str
    status: str | None = None
    url: str | None = None
    customer: Id | None = None
    subscription: Id | None = None
    metadata: Metadata = Field(default_factory=dict)


class PortalConfiguration(StripeObject):
    """What the billing portal offers."""

    id: str
    active: bool = True
    metadata: Metadata = Field(default_factory=dict)


class PortalSession(StripeObject):
    """The portal, opened for one customer."""

    id: str
    url: str


class PaymentIntent(StripeObject):
    """A single payment."""

    id: str
    status: str
    amount: int
    customer: Id | None = None
    metadata: Metadata = Field(default_factory=dict)


class Created(StripeObject):
    """An object of which only the id matters."""

    id: str
