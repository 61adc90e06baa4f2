"""Events that Stripe has and we never got: found page by page, and fed in on the webhook's own way (MS-9)."""

from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

import orjson
import structlog

from bursar.billing.calendar import from_unix
from bursar.billing.errors import Permanent, UnreadableMessage
from bursar.billing.values import Value
from bursar.db import inbox, parked
from bursar.db.connections import Connection
from bursar.db.items import MessageCopy
from bursar.handlers.messages import HANDLED_STRIPE_TYPES, STRIPE, ReceivedMessage, is_nobodys, resolve_accounts
from bursar.handlers.relay import RelayedEvent, relayed
from bursar.service.checks.listing import EventsGateway
from bursar.service.deciding.decider import Decider
from bursar.service.gateways.stripe.pages import MAX_EVENT_TYPES
from bursar.service.observability.tracing import new_traceparent

log = structlog.get_logger()

KEPT_BY_STRIPE = timedelta(days=30)
SETTLES_IN = timedelta(minutes=5)  # an event younger than this may still be on its way: no gap yet
MAX_PAGES = 5_000  # of 100 events
MAX_FED = 10_000  # at once, the oldest; another run goes on with what is still missing

Json = Mapping[str, Any]
SoFar = Callable[[int], Awaitable[None]]  # told how many there were so far


class EventsPublisher(Protocol):
    """Publishes durably: returns once the broker has confirmed, else raises `Retryable`."""

    async def publish(self, message: ReceivedMessage) -> None: ...


class Missed(Value):
    """What a look through Stripe's events found. `events` are the oldest of those that are missing, oldest first."""

    listed: int
    missing: int
    events: tuple[Json, ...]

    @property
    def types(self) -> dict[str, int]:
        """How many of which type, of those that `events` holds."""
        return dict(sorted(Counter(str(event.get("type")) for event in self.events).items()))


class Fed(Value):
    """How many were published, and how many were parked since nobody can be named to take them."""

    published: int
    parked: int


class MissedEvents:
    """Finds and feeds in. What was fed in and is handled is no longer missing: a run that broke off is run again."""

    def __init__(
        self, stripe: EventsGateway, decider: Decider, publisher: EventsPublisher, *, max_fed: int = MAX_FED
    ) -> None:
        self._stripe = stripe
        self._decider = decider
        self._publisher = publisher
        self._max_fed = max_fed

    async def find(self, since: datetime, until: datetime, on_page: SoFar) -> Missed:
        """Look at the events that we handle, created from `since` to `until` (real time). `on_page` is told how many
        were listed so far.
        """
        listed = missing = 0
        kept = deque[Json](maxlen=self._max_fed)  # Stripe lists the newest first, so that the oldest stay
        for types in _bounded(sorted(HANDLED_STRIPE_TYPES)):
            async for events in self._pages(types, since):
                listed += len(events)
                found = await self._unknown([event for event in events if _is_of(event, types, until)])
                missing += len(found)
                kept.extend(found)
                await on_page(listed)
        return Missed(listed, missing, tuple(sorted(kept, key=_created)))

    async def feed(self, events: Iterable[Json], on_event: SoFar) -> Fed:
        """Publish each as the webhook would have. Raises `Retryable` when broker or database do not answer."""
        published = set_aside = 0
        for event in events:
            try:
                await self._publish(relayed(event), event)
                published += 1
            except UnreadableMessage as error:
                await self._park(event, error)
                set_aside += 1
            await on_event(published + set_aside)
        return Fed(published, set_aside)

    async def _pages(self, types: Sequence[str], since: datetime) -> AsyncIterator[tuple[Json, ...]]:
        after: str | None = None
        for _ in range(MAX_PAGES):
            page = await self._stripe.events_page(types=types, created_after=since, starting_after=after)
            yield page.events
            after = page.last_id
            if not page.has_more or after is None:
                return
        raise Permanent(f"more than {MAX_PAGES} pages of events")

    async def _unknown(self, events: Sequence[Json]) -> list[Json]:
        ids = [str(event.get("id")) for event in events]
        missing = await self._decider.with_connection(lambda connection: inbox.not_among(connection, ids))
        return [event for event in events if str(event.get("id")) in missing]

    async def _publish(self, event: RelayedEvent, raw: Json) -> None:
        async def resolve(connection: Connection) -> str:
            return (await resolve_accounts(connection, {event.account}))[event.account]

        account = await self._decider.with_connection(resolve)
        await self._publisher.publish(event.message(account, orjson.dumps(raw), new_traceparent()))

    async def _park(self, event: Json, error: UnreadableMessage) -> None:
        message_id = str(event.get("id"))
        copy = MessageCopy(STRIPE + str(event.get("type")), {}, orjson.dumps(event))

        async def record(connection: Connection) -> None:
            real_now = (await self._decider.clock.situation(connection)).real_now
            failed = parked.FailedMessage(message_id, None, copy, error)
            await parked.record_first_failures(connection, [failed], real_now)

        await self._decider.with_connection(record)
        log.warning("missed event parked", message_id=message_id, error=str(error))


def _bounded(types: Sequence[str]) -> list[Sequence[str]]:
    """As many as Stripe lists at once."""
    return [types[start : start + MAX_EVENT_TYPES] for start in range(0, len(types), MAX_EVENT_TYPES)]


def _is_of(event: Json, types: Sequence[str], until: datetime) -> bool:
    """Ours: the relay drops the others unseen, so they are never missing."""
    is_ours = event.get("type") in types and not is_nobodys(str(event["type"]), event)
    return is_ours and _created(event) <= until.timestamp()


def _created(event: Json) -> float:
    created = event.get("created")
    return from_unix(created).timestamp() if isinstance(created, int) else 0.0
