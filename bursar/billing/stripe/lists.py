"""Lists of Stripe's objects, all their pages together; the gateway bounds their number."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import AliasPath, Field

from bursar.billing.stripe.objects import Id, StripeInvoice, StripeObject, StripeSubscription
from bursar.billing.stripe.sales import CheckoutSession, Created, PaymentIntent, PortalConfiguration, StripeCustomer


class Subscriptions(StripeObject):
    """Subscriptions, newest first."""

    data: tuple[StripeSubscription, ...]


class Customers(StripeObject):
    """Customers, newest first."""

    data: tuple[StripeCustomer, ...]


class CheckoutSessions(StripeObject):
    """Checkout sessions, newest first."""

    data: tuple[CheckoutSession, ...]


class Invoices(StripeObject):
    """Invoices, newest first."""

    data: tuple[StripeInvoice, ...]


class InvoicePayment(StripeObject):
    """A payment of an invoice: one of the two names it, or neither where the money came from elsewhere."""

    invoice: Id
    status: str | None = None
    payment_intent: Annotated[Id | None, Field(validation_alias=AliasPath("payment", "payment_intent"))] = None
    charge: Annotated[Id | None, Field(validation_alias=AliasPath("payment", "charge"))] = None

    @property
    def refund(self) -> Mapping[str, str] | None:
        """What to ask of Stripe to give all of it back."""
        if self.payment_intent:
            return {"payment_intent": self.payment_intent}
        return {"charge": self.charge} if self.charge else None


class InvoicePayments(StripeObject):
    """What paid an invoice, or which invoices a payment paid."""

    data: tuple[InvoicePayment, ...]

    @property
    def refunds(self) -> tuple[Mapping[str, str], ...]:
        """What to ask of Stripe, one after the other, to give back all that paid the invoice."""
        return tuple(one.refund for one in self.data if one.refund and one.status == "paid")


class PortalConfigurations(StripeObject):
    """Configurations of the billing portal."""

    data: tuple[PortalConfiguration, ...]


class PaymentMethods(StripeObject):
    """What a customer can pay with, newest first."""

    data: tuple[Created, ...]


class PaymentIntents(StripeObject):
    """Payments, newest first."""

    data: tuple[PaymentIntent, ...]
