"""Which function answers which call. Paths are spelled as in Stripe's OpenAPI description."""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from bursar.billing.values import Value
from bursar.service.stripe_stand_in import (
    checkout,
    customers,
    events,
    invoices,
    payments,
    portal,
    schedules,
    subscriptions,
)

Handler = Callable[..., Any]

HANDLERS: Mapping[str, Handler] = MappingProxyType(
    {
        "POST /v1/customers": customers.create,
        "GET /v1/customers": customers.listed,
        "GET /v1/customers/{customer}": customers.retrieve,
        "POST /v1/checkout/sessions": checkout.create,
        "GET /v1/checkout/sessions": checkout.listed,
        "GET /v1/checkout/sessions/{session}": checkout.retrieve,
        "POST /v1/checkout/sessions/{session}/expire": checkout.expire,
        "GET /v1/subscriptions": subscriptions.listed,
        "GET /v1/subscriptions/{subscription_exposed_id}": subscriptions.retrieve,
        "POST /v1/subscriptions/{subscription_exposed_id}": subscriptions.update,
        "DELETE /v1/subscriptions/{subscription_exposed_id}": subscriptions.cancel,
        "POST /v1/subscription_schedules": schedules.create,
        "GET /v1/subscription_schedules": schedules.listed,
        "GET /v1/subscription_schedules/{schedule}": schedules.retrieve,
        "POST /v1/subscription_schedules/{schedule}": schedules.update,
        "POST /v1/subscription_schedules/{schedule}/release": schedules.release,
        "POST /v1/subscription_schedules/{schedule}/cancel": schedules.cancel,
        "GET /v1/invoices": invoices.listed,
        "POST /v1/invoices": invoices.create,
        "GET /v1/invoices/{invoice}": invoices.retrieve,
        "DELETE /v1/invoices/{invoice}": invoices.delete,
        "POST /v1/invoices/{invoice}/finalize": invoices.finalize,
        "POST /v1/invoices/{invoice}/pay": invoices.pay,
        "POST /v1/invoices/{invoice}/void": invoices.void,
        "POST /v1/invoiceitems": invoices.create_item,
        "GET /v1/invoice_payments": invoices.payments,
        "GET /v1/payment_methods": customers.payment_methods,
        "GET /v1/payment_intents": payments.listed,
        "POST /v1/payment_intents": payments.create,
        "GET /v1/payment_intents/{intent}": payments.retrieve,
        "POST /v1/payment_intents/{intent}/cancel": payments.cancel,
        "POST /v1/refunds": payments.give_back,
        "GET /v1/billing_portal/configurations": portal.configurations,
        "POST /v1/billing_portal/configurations": portal.create_configuration,
        "POST /v1/billing_portal/sessions": portal.create_session,
        "GET /v1/events": events.listed,
        "GET /v1/events/{id}": events.retrieve,
    }
)


class Route(Value):
    """A call that is known: `name` is its entry above, `key` the id in its path."""

    name: str
    handler: Handler
    key: str | None

    @property
    def template(self) -> str:
        """Its path, spelled as in the description."""
        return self.name.partition(" ")[2]


def find(method: str, path: str) -> Route | None:
    """The entry for a call; None for what the stand-in does not know."""
    for name, handler in HANDLERS.items():
        known_method, _, template = name.partition(" ")
        matched = re.fullmatch(re.sub(r"\{\w+\}", "([^/]+)", template), path)
        if known_method == method and matched:
            return Route(name, handler, matched.group(1) if matched.groups() else None)
    return None
