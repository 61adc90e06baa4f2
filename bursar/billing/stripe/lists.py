"""Lists of Stripe's objects, all their pages together; the gateway bounds their number."""

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
    """That a payment paid an invoice."""

    invoice: Id


class InvoicePayments(StripeObject):
    """Which invoices a payment paid."""

    data: tuple[InvoicePayment, ...]


class PortalConfigurations(StripeObject):
    """Configurations of the billing portal."""

    data: tuple[PortalConfiguration, ...]


class PaymentMethods(StripeObject):
    """What a customer can pay with, newest first."""

    data: tuple[Created, ...]


class PaymentIntents(StripeObject):
    """Payments, newest first."""

    data: tuple[PaymentIntent, ...]
