"""How each call is made with the SDK, and when its effect is already there."""

from collections.abc import Mapping
from types import MappingProxyType

import stripe

from bursar.billing.stripe.calls import READS, Method
from bursar.billing.stripe.schedules import ENDED_SCHEDULE
from bursar.billing.values import Value
from bursar.service.gateways.stripe.requests import SdkMethod

LISTS = frozenset(method for method in READS if method.endswith(".list"))


class AlreadySo(Value):
    """How to look at what a refused call was about, and the statuses in which its effect is there (KC-46)."""

    name: str
    look: SdkMethod
    statuses: frozenset[str]


def sdk_methods(v1: stripe.V1Services) -> Mapping[Method, SdkMethod]:
    """The SDK's coroutine for each method; all take `params` and `options`, most the object's id before."""
    sessions, configurations = v1.checkout.sessions, v1.billing_portal.configurations
    return MappingProxyType(
        {
            Method.RETRIEVE_SUBSCRIPTION: v1.subscriptions.retrieve_async,
            Method.LIST_SUBSCRIPTIONS: v1.subscriptions.list_async,
            Method.UPDATE_SUBSCRIPTION: v1.subscriptions.update_async,
            Method.CANCEL_SUBSCRIPTION: v1.subscriptions.cancel_async,
            Method.LIST_CUSTOMERS: v1.customers.list_async,
            Method.RETRIEVE_CUSTOMER: v1.customers.retrieve_async,
            Method.CREATE_CUSTOMER: v1.customers.create_async,
            Method.LIST_PAYMENT_METHODS: v1.payment_methods.list_async,
            Method.LIST_CHECKOUT_SESSIONS: sessions.list_async,
            Method.CREATE_CHECKOUT_SESSION: sessions.create_async,
            Method.EXPIRE_CHECKOUT_SESSION: sessions.expire_async,
            Method.RETRIEVE_SCHEDULE: v1.subscription_schedules.retrieve_async,
            Method.CREATE_SCHEDULE: v1.subscription_schedules.create_async,
            Method.UPDATE_SCHEDULE: v1.subscription_schedules.update_async,
            Method.RELEASE_SCHEDULE: v1.subscription_schedules.release_async,
            Method.LIST_INVOICES: v1.invoices.list_async,
            Method.RETRIEVE_INVOICE: v1.invoices.retrieve_async,
            Method.LIST_INVOICE_PAYMENTS: v1.invoice_payments.list_async,
            Method.CREATE_INVOICE: v1.invoices.create_async,
            Method.CREATE_INVOICE_ITEM: v1.invoice_items.create_async,
            Method.FINALIZE_INVOICE: v1.invoices.finalize_invoice_async,
            Method.PAY_INVOICE: v1.invoices.pay_async,
            Method.VOID_INVOICE: v1.invoices.void_invoice_async,
            Method.DELETE_INVOICE: v1.invoices.delete_async,
            Method.LIST_PORTAL_CONFIGURATIONS: configurations.list_async,
            Method.CREATE_PORTAL_CONFIGURATION: configurations.create_async,
            Method.CREATE_PORTAL_SESSION: v1.billing_portal.sessions.create_async,
            Method.LIST_PAYMENT_INTENTS: v1.payment_intents.list_async,
            Method.CREATE_PAYMENT_INTENT: v1.payment_intents.create_async,
            Method.CANCEL_PAYMENT_INTENT: v1.payment_intents.cancel_async,
            Method.CREATE_REFUND: v1.refunds.create_async,
        }
    )


def already_so(v1: stripe.V1Services) -> Mapping[Method, AlreadySo]:
    """The calls that may find their effect already there: at Stripe they end an object, which ends once."""
    subscriptions, schedules, sessions = v1.subscriptions, v1.subscription_schedules, v1.checkout.sessions
    canceled = frozenset({"canceled"})
    return MappingProxyType(
        {
            Method.CANCEL_SUBSCRIPTION: AlreadySo("subscriptions.retrieve", subscriptions.retrieve_async, canceled),
            Method.RELEASE_SCHEDULE: AlreadySo(
                "subscription_schedules.retrieve", schedules.retrieve_async, ENDED_SCHEDULE
            ),
            Method.DELETE_INVOICE: AlreadySo("invoices.retrieve", v1.invoices.retrieve_async, frozenset({"void"})),
            Method.VOID_INVOICE: AlreadySo("invoices.retrieve", v1.invoices.retrieve_async, frozenset({"void"})),
            Method.EXPIRE_CHECKOUT_SESSION: AlreadySo(
                "checkout.sessions.retrieve", sessions.retrieve_async, frozenset({"expired", "complete"})
            ),
            Method.CANCEL_PAYMENT_INTENT: AlreadySo(
                "payment_intents.retrieve", v1.payment_intents.retrieve_async, canceled
            ),
        }
    )
