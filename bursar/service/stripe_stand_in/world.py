"""Everything the stand-in holds: objects by kind, events in the order in which they happened, and its own time."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from bursar.billing.values import Value
from bursar.service.demo.lives import JsonObject
from bursar.service.demo.stripe_shapes import StripeIds, copied, skeleton
from bursar.service.stripe_stand_in.refusals import missing

HOUR_SECONDS = 3_600
DAY_SECONDS = 86_400


class Card(StrEnum):
    """How a customer's card behaves."""

    GOOD = "good"
    DECLINED = "declined"
    CHALLENGE = "challenge"  # 3-D Secure each time: fails whenever the customer is not there
    FAILS_LATER = "fails_later"  # good while the customer is there, declined on renewals


class AfterDunning(StrEnum):
    """What becomes of a subscription once all retries failed, as the account's settings say."""

    UNPAID = "unpaid"
    CANCELED = "canceled"
    PAST_DUE = "past_due"


class Price(Value):
    """A recurring price: `cents` every `months` calendar months."""

    id: str
    cents: int
    months: int = 1


STANDARD = Price("price_standard", 2_500)
COMMIT = Price("price_commit", 5_400, months=6)


class Policy(Value):
    """The account's settings. Each retry comes so many days after the first attempt."""

    retry_days: tuple[int, ...] = (3, 5, 7)
    after_dunning: AfterDunning = AfterDunning.CANCELED
    last_phase_leaves: Literal["released", "completed"] = "released"  # a schedule; Stripe's pages say both
    draft_seconds: int = HOUR_SECONDS  # a renewal's invoice stands so long before it is charged


class Asked(Value):
    """The request that is being answered."""

    request_id: str
    idempotency_key: str | None


@dataclass(slots=True)
class World:
    """The state. `now` is in Unix seconds."""

    now: int
    policy: Policy = field(default_factory=Policy)
    ids: StripeIds = field(default_factory=lambda: StripeIds("stand-in"))
    tables: dict[str, dict[str, JsonObject]] = field(default_factory=lambda: defaultdict(dict))
    events: list[JsonObject] = field(default_factory=list)
    cards: dict[str, Card] = field(default_factory=dict)  # by payment method
    announced_trials: set[tuple[str, int]] = field(default_factory=set)  # subscription, trial end
    asked: Asked | None = None
    failing_payments: Card | None = None  # instead of every card, during one request

    def add(self, kind: str, thing: JsonObject) -> JsonObject:
        """Keep a new object."""
        self.tables[kind][thing["id"]] = thing
        return thing

    def get(self, kind: str, key: object, param: str = "id") -> JsonObject:
        """The object itself; Stripe's `resource_missing` for an unknown one."""
        found = self.tables[kind].get(str(key))
        if found is None:
            raise missing(kind, str(key), param)
        return found

    def all(self, kind: str, **fields: object) -> list[JsonObject]:
        """Objects with these fields, oldest first."""
        kept = self.tables[kind].values()
        return [thing for thing in kept if all(thing.get(name) == value for name, value in fields.items())]

    def emit(self, event_type: str, thing: JsonObject, previous: Mapping[str, Any] | None = None) -> None:
        """Write an event down, with the object as it is now."""
        data: JsonObject = {"object": copied(thing)}
        if previous is not None:
            data["previous_attributes"] = dict(previous)
        event = skeleton("event", id=self.ids.new("evt"), type=event_type, created=self.now, data=data)
        if self.asked:
            event["request"] = {"id": self.asked.request_id, "idempotency_key": self.asked.idempotency_key}
        self.events.append(event)

    @contextmanager
    def updating(self, thing: JsonObject, event_type: str) -> Iterator[JsonObject]:
        """Change an object; its event says which attributes changed. Without a change there is no event."""
        before = copied(thing)
        yield thing
        previous = {name: value for name, value in before.items() if thing.get(name) != value}
        previous |= dict.fromkeys(thing.keys() - before.keys())
        if previous:
            self.emit(event_type, thing, previous)
