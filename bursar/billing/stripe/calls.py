"""Calls to Stripe as data: what an operation asks for, and the gateway carries out."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from bursar.billing.stripe.lists import (
    CheckoutSessions,
    Customers,
    InvoicePayments,
    Invoices,
    PaymentIntents,
    PaymentMethods,
    PortalConfigurations,
    Subscriptions,
)
from bursar.billing.stripe.objects import StripeInvoice, StripeObject, StripeSubscription
from bursar.billing.stripe.sales import (
    CheckoutSession,
    Created,
    PaymentIntent,
    PortalConfiguration,
    PortalSession,
    StripeCustomer,
)
from bursar.billing.stripe.schedules import StripeSchedule
from bursar.billing.values import Value, field


class Method(StrEnum):
    """What may be asked of Stripe, in its own words. The gateway has one entry for each."""

    RETRIEVE_SUBSCRIPTION = "subscriptions.retrieve"
    LIST_SUBSCRIPTIONS = "subscriptions.list"
    UPDATE_SUBSCRIPTION = "subscriptions.update"
    CANCEL_SUBSCRIPTION = "subscriptions.cancel"
    LIST_CUSTOMERS = "customers.list"
    RETRIEVE_CUSTOMER = "customers.retrieve"
    CREATE_CUSTOMER = "customers.create"
    LIST_PAYMENT_METHODS = "payment_methods.list"
    LIST_CHECKOUT_SESSIONS = "checkout.sessions.list"
    CREATE_CHECKOUT_SESSION = "checkout.sessions.create"
    EXPIRE_CHECKOUT_SESSION = "checkout.sessions.expire"
    RETRIEVE_SCHEDULE = "subscription_schedules.retrieve"
    CREATE_SCHEDULE = "subscription_schedules.create"
    UPDATE_SCHEDULE = "subscription_schedules.update"
    RELEASE_SCHEDULE = "subscription_schedules.release"
    LIST_INVOICES = "invoices.list"
    RETRIEVE_INVOICE = "invoices.retrieve"
    LIST_INVOICE_PAYMENTS = "invoice_payments.list"
    CREATE_INVOICE = "invoices.create"
    CREATE_INVOICE_ITEM = "invoice_items.create"
    FINALIZE_INVOICE = "invoices.finalize"
    PAY_INVOICE = "invoices.pay"
    VOID_INVOICE = "invoices.void"
    DELETE_INVOICE = "invoices.delete"
    LIST_PORTAL_CONFIGURATIONS = "billing_portal.configurations.list"
    CREATE_PORTAL_CONFIGURATION = "billing_portal.configurations.create"
    CREATE_PORTAL_SESSION = "billing_portal.sessions.create"
    LIST_PAYMENT_INTENTS = "payment_intents.list"
    CREATE_PAYMENT_INTENT = "payment_intents.create"
    CANCEL_PAYMENT_INTENT = "payment_intents.cancel"
    CREATE_REFUND = "refunds.create"


ALREADY_REFUNDED = "charge_already_refunded"  # Stripe's refusal to give a payment back twice
READS = frozenset(
    method for method in Method if method.rpartition(".")[2] in ("retrieve", "list")
)  # asked as often as one likes


class Call(Value):
    """One call. `name` is unique within its operation; with the operation's key it makes the idempotency key.

    `target` is the id of the object it is about. `undo` takes the call's effect back; where it has no target of its
    own, it is about the object that the call returned.
    """

    name: str
    method: Method
    target: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    undo: "Call | None" = None
    idempotency_key: str | None = None  # where one outlives the operation, such as a user's customer
    settles: bool = False  # once it is answered there is no way back: nothing before it is undone any more
    fades: bool = False  # what it makes ends by itself within a day: nothing to worry about where no undo reached it

    @property
    def changes_stripe(self) -> bool:
        """Whether it may not be made twice under two keys."""
        return self.method not in READS


VIEWS: Mapping[Method, type[StripeObject]] = MappingProxyType(
    {
        Method.RETRIEVE_SUBSCRIPTION: StripeSubscription,
        Method.LIST_SUBSCRIPTIONS: Subscriptions,
        Method.UPDATE_SUBSCRIPTION: StripeSubscription,
        Method.CANCEL_SUBSCRIPTION: StripeSubscription,
        Method.LIST_CUSTOMERS: Customers,
        Method.RETRIEVE_CUSTOMER: StripeCustomer,
        Method.CREATE_CUSTOMER: StripeCustomer,
        Method.LIST_PAYMENT_METHODS: PaymentMethods,
        Method.LIST_CHECKOUT_SESSIONS: CheckoutSessions,
        Method.CREATE_CHECKOUT_SESSION: CheckoutSession,
        Method.EXPIRE_CHECKOUT_SESSION: CheckoutSession,
        Method.RETRIEVE_SCHEDULE: StripeSchedule,
        Method.CREATE_SCHEDULE: StripeSchedule,
        Method.UPDATE_SCHEDULE: StripeSchedule,
        Method.RELEASE_SCHEDULE: StripeSchedule,
        Method.LIST_INVOICES: Invoices,
        Method.RETRIEVE_INVOICE: StripeInvoice,
        Method.LIST_INVOICE_PAYMENTS: InvoicePayments,
        Method.CREATE_INVOICE: StripeInvoice,
        Method.CREATE_INVOICE_ITEM: Created,
        Method.FINALIZE_INVOICE: StripeInvoice,
        Method.PAY_INVOICE: StripeInvoice,
        Method.VOID_INVOICE: StripeInvoice,
        Method.DELETE_INVOICE: Created,
        Method.LIST_PORTAL_CONFIGURATIONS: PortalConfigurations,
        Method.CREATE_PORTAL_CONFIGURATION: PortalConfiguration,
        Method.CREATE_PORTAL_SESSION: PortalSession,
        Method.LIST_PAYMENT_INTENTS: PaymentIntents,
        Method.CREATE_PAYMENT_INTENT: PaymentIntent,
        Method.CANCEL_PAYMENT_INTENT: PaymentIntent,
        Method.CREATE_REFUND: Created,
    }
)
