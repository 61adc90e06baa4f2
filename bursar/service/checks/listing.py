"""What the checks ask of Stripe, after everybody else (MS-11)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from bursar.billing.stripe.objects import StripeSubscription
from bursar.service.gateways.stripe.pages import EventsPage, SubscriptionsPage


class EventsGateway(Protocol):
    """Stripe's events. Raises `Retryable` or `Permanent`."""

    async def events_page(
        self, *, types: Sequence[str], created_after: datetime, starting_after: str | None
    ) -> EventsPage: ...


class SubscriptionsListing(Protocol):
    """Stripe's subscriptions, all of them or one. Raises `Retryable` or `Permanent`."""

    async def subscriptions_page(self, *, starting_after: str | None) -> SubscriptionsPage: ...

    async def retrieve_subscription(self, subscription_id: str) -> StripeSubscription | None: ...


class StripeLists(EventsGateway, SubscriptionsListing, Protocol):
    """Both."""
