"""The official SDK against the stand-in, and the calls that many tests begin with."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import stripe

from bursar.billing.stripe.objects import API_VERSION
from bursar.service.stripe_stand_in.world import COMMIT, STANDARD, Card, Price
from tests.stripe.stand_in import StripeStandIn

SECRET_KEY = "sk_test_madeup1234567890"
SIX_MONTHS = {"interval": "month", "interval_count": 6}
ONE_MONTH = {"interval": "month", "interval_count": 1}
OURS = {"type": "kiloclaw", "userId": "user-1"}


@asynccontextmanager
async def sdk(stand_in: StripeStandIn) -> AsyncIterator[Any]:
    """The SDK's client; untyped, since tests also send what its types forbid."""
    http = stripe.HTTPXClient(timeout=5)
    client = stripe.StripeClient(
        SECRET_KEY,
        stripe_version=API_VERSION,
        base_addresses={"api": stand_in.base_url},
        max_network_retries=0,
        http_client=http,
    )
    try:
        yield client.v1
    finally:
        await http.close_async()  # type: ignore[no-untyped-call]


async def a_customer(api: Any) -> str:
    made = await api.customers.create_async({"email": "user-1@example.com", "metadata": {"userId": "user-1"}})
    key: str = made.id
    return key


async def a_session(api: Any, price: Price = STANDARD, **params: Any) -> Any:
    """A checkout session of a new customer, unless `customer` is given."""
    asked = {
        "mode": "subscription",
        "customer": params.pop("customer", None) or await a_customer(api),
        "line_items": [{"price": price.id, "quantity": 1}],
        "subscription_data": {"metadata": OURS, **params.pop("subscription_data", {})},
        "success_url": "https://app.example.com/paid",
    }
    return await api.checkout.sessions.create_async({**asked, **params})


async def subscribed(
    stand_in: StripeStandIn, api: Any, price: Price = STANDARD, card: Card = Card.GOOD, **params: Any
) -> Any:
    """A subscription bought at checkout."""
    session = await stand_in.customer_pays((await a_session(api, price, **params)).id, card)
    return await api.subscriptions.retrieve_async(session["subscription"])


def then_standard(first: Mapping[str, Any]) -> list[dict[str, Any]]:
    """That phase, then a month of standard."""
    return [dict(first), {"items": [{"price": STANDARD.id, "quantity": 1}], "duration": ONE_MONTH}]


async def commit_with_schedule(stand_in: StripeStandIn, api: Any) -> tuple[Any, Any]:
    """A commit subscription and its schedule: six months, then standard."""
    subscription = await subscribed(stand_in, api, COMMIT)
    schedule = await api.subscription_schedules.create_async({"from_subscription": subscription.id})
    starts_at = schedule.phases[0].start_date
    commit = {"start_date": starts_at, "items": [{"price": COMMIT.id, "quantity": 1}], "duration": SIX_MONTHS}
    params = {"phases": then_standard(commit), "end_behavior": "release", "proration_behavior": "none"}
    return subscription, await api.subscription_schedules.update_async(schedule.id, params)
