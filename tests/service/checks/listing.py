"""Stripe's lists, page by page, newest first."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bursar.billing.stripe.objects import StripeSubscription
from bursar.service.gateways.stripe.pages import EventsPage, SubscriptionsPage


@dataclass
class FakeListing:
    """`events` and `subscriptions` newest first, two to a page."""

    events: list[dict[str, Any]] = field(default_factory=list)
    subscriptions: list[StripeSubscription] = field(default_factory=list)
    unlisted: list[StripeSubscription] = field(default_factory=list)  # there, but on no page
    unreadable: tuple[str, ...] = ()
    asked: list[str | None] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    page_size: int = 2

    async def events_page(
        self, *, types: Sequence[str], created_after: datetime, starting_after: str | None
    ) -> EventsPage:
        self._asked(starting_after)
        assert types
        found = [event for event in self.events if event["created"] >= created_after.timestamp()]
        page, has_more = self._page(found, [event["id"] for event in found], starting_after)
        return EventsPage(tuple(page), has_more, page[-1]["id"] if page else None)

    async def subscriptions_page(self, *, starting_after: str | None) -> SubscriptionsPage:
        self._asked(starting_after)
        page, has_more = self._page(self.subscriptions, [one.id for one in self.subscriptions], starting_after)
        return SubscriptionsPage(tuple(page), self.unreadable, has_more, page[-1].id if page else None)

    async def retrieve_subscription(self, subscription_id: str) -> StripeSubscription | None:
        self._asked(subscription_id)
        return next((one for one in (*self.subscriptions, *self.unlisted) if one.id == subscription_id), None)

    def _asked(self, name: str | None) -> None:
        self.asked.append(name)
        if self.failures:
            raise self.failures.pop(0)

    def _page(self, found: list[Any], ids: list[str], after: str | None) -> tuple[list[Any], bool]:
        start = ids.index(after) + 1 if after else 0
        return found[start : start + self.page_size], start + self.page_size < len(found)
