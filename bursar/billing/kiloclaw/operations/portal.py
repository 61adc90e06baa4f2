"""The billing portal: payment methods and invoices, no canceling or switching, which are ours (KC-54)."""

from collections.abc import Generator
from typing import Any

from bursar.billing.errors import Refused
from bursar.billing.kiloclaw.rows import Hosting
from bursar.billing.stripe.calls import Call, Method

CONFIGURATION_KEY = "portal-configuration:kiloclaw"
OURS = {"bursar": "kiloclaw"}
FEATURES = {
    "payment_method_update": {"enabled": True},
    "invoice_history": {"enabled": True},
    "customer_update": {"enabled": False},
    "subscription_cancel": {"enabled": False},
    "subscription_update": {"enabled": False},
}


def portal_customer(hosting: Hosting, told_customer_id: str | None) -> str:
    """Whose portal; `Refused("billing_portal_unavailable")` for a row without a Stripe id, or no row."""
    row = hosting.subscription
    customer_id = (row.stripe_customer_id or told_customer_id) if row and row.stripe_subscription_id else None
    if customer_id is None:
        raise Refused("billing_portal_unavailable", "There is no subscription that is paid through Stripe.")
    return customer_id


def portal_address(customer_id: str, return_url: str) -> Generator[Call, Any, str]:
    """The address of a portal session; the configuration is found by our mark, else created once for all users."""
    known = yield Call("list-configurations", Method.LIST_PORTAL_CONFIGURATIONS, params={"active": True})
    ours = next((one.id for one in known.data if one.metadata.get("bursar") == OURS["bursar"]), None)
    if ours is None:
        created = yield Call(
            "create-configuration",
            Method.CREATE_PORTAL_CONFIGURATION,
            params={"features": FEATURES, "metadata": OURS},
            idempotency_key=CONFIGURATION_KEY,
        )
        ours = created.id
    params = {"customer": customer_id, "configuration": ours, "return_url": return_url}
    session = yield Call("create-session", Method.CREATE_PORTAL_SESSION, params=params)
    address: str = session.url
    return address
