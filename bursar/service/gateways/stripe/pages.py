"""Reading Stripe's lists page by page, and its objects in our views."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from bursar.billing.errors import CallRefused, Permanent, Retryable, UnreadableMessage
from bursar.billing.stripe.objects import StripeObject, StripeSubscription
from bursar.billing.values import Value
from bursar.service.gateways.stripe.errors import MISSING

PAGE_SIZE = 100
MAX_PAGES = 10
MAX_EVENT_TYPES = 20  # Stripe takes no more

Json = Mapping[str, Any]
View = TypeVar("View", bound=StripeObject)


class EventsPage(Value):
    """Events as Stripe tells them, newest first. `last_id` is where the next page starts."""

    events: tuple[Json, ...]
    has_more: bool
    last_id: str | None


class SubscriptionsPage(Value):
    """Subscriptions of all customers, newest first; `unreadable` says which could not be read and why."""

    subscriptions: tuple[StripeSubscription, ...]
    unreadable: tuple[str, ...]
    has_more: bool
    last_id: str | None


async def read_all(read_page: Callable[[str | None], Awaitable[Json]]) -> list[Json]:
    """Every object of a list. A list longer than 1,000 is `Permanent`, never cut short."""
    found: list[Json] = []
    for _ in range(MAX_PAGES):
        page = await _next_page(read_page, found[-1]["id"] if found else None)
        found += page["data"]
        if not page["has_more"]:
            return found
        if not page["data"]:
            raise Permanent("Stripe announced a further page after an empty one")
    raise Permanent(f"a list at Stripe has more than {MAX_PAGES * PAGE_SIZE} objects")


async def _next_page(read_page: Callable[[str | None], Awaitable[Json]], after: str | None) -> Json:
    try:
        return await read_page(after)
    except CallRefused as refusal:
        if after is None or refusal.code != MISSING:
            raise
    raise Retryable("a list at Stripe changed while it was read")  # the last one that was read is gone


def events_page(page: Json) -> EventsPage:
    """One page of events."""
    return EventsPage(tuple(page["data"]), page["has_more"], _last_id(page["data"]))


def subscriptions_page(page: Json) -> SubscriptionsPage:
    """One page of subscriptions; what no rule can read stops nobody else's."""
    readable: list[StripeSubscription] = []
    unreadable: list[str] = []
    for raw in page["data"]:
        try:
            readable.append(seen(StripeSubscription, raw))
        except UnreadableMessage as error:
            unreadable.append(str(error))
    return SubscriptionsPage(tuple(readable), tuple(unreadable), page["has_more"], _last_id(page["data"]))


def seen(view: type[View], raw: Json) -> View:
    """Our view of an object. Raises `UnreadableMessage`, which names the fields but not their values."""
    try:
        return view.model_validate(raw)
    except ValidationError as error:
        fields = sorted({".".join(map(str, problem["loc"])) for problem in error.errors(include_input=False)})
    raise UnreadableMessage(f"Stripe's {_kind(raw)} cannot be read: {', '.join(fields)}")


def _kind(raw: Json) -> str:
    return " ".join(str(raw[name]) for name in ("object", "id") if name in raw)


def _last_id(objects: Sequence[Json]) -> str | None:
    return objects[-1]["id"] if objects else None
