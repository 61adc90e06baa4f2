"""Events that never came are found at Stripe and fed in (MS-9)."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest

from bursar.billing.errors import Retryable
from bursar.db import ticks
from bursar.db.ticks import Tick
from bursar.handlers.messages import item_of
from bursar.service.checks.gap_check import GAP_CHECK, GapChecker, looks_back_to
from bursar.service.checks.missed_events import MAX_FED, MissedEvents
from bursar.service.deciding.decider import Decider
from bursar.service.observability.metrics import Metrics
from bursar.service.steps.step_crew import StepCrew
from bursar.service.steps.together import Together
from bursar.sweeps.checks import asking_for
from tests.billing.kiloclaw.making import CATALOGUE, DAY, HOUR, NOW, event_json, subscription_json
from tests.db.deciding import REAL_NOW, StandingClock, a_decider, an_item
from tests.service.checks.listing import FakeListing
from tests.service.web.serving import FakePublisher

MINUTE = timedelta(minutes=1)


@dataclass
class Checking:
    decider: Decider
    clock: StandingClock
    stripe: FakeListing = field(default_factory=FakeListing)
    publisher: FakePublisher = field(default_factory=FakePublisher)
    metrics: Metrics = field(default_factory=Metrics)
    max_fed: int = MAX_FED

    @property
    def missed(self) -> MissedEvents:
        return MissedEvents(self.stripe, self.decider, self.publisher, max_fed=self.max_fed)

    def happened(self, *events: dict[str, Any]) -> None:
        self.stripe.events = sorted(events, key=lambda event: int(event["created"]), reverse=True)

    async def handled(self, *event_ids: str) -> None:
        await self.decider.decide([an_item(event_id) for event_id in event_ids])

    async def check(self) -> str:
        """A tick asks, a worker does it; the step's state."""
        async with self.decider.pool.acquire() as connection:
            tick = await ticks.insert_tick(connection, GAP_CHECK, self.clock.now, self.clock.real_now)
            await ticks.begin_partition(connection, tick.id, 0, self.clock.now, self.clock.real_now)
        await self.decider.decide([asking_for(GAP_CHECK, tick)])
        return await self.work()

    async def work(self) -> str:
        crew = StepCrew(
            GapChecker(self.missed, self.decider, self.metrics), self.decider, Together(self.decider), self.metrics
        )
        for job in await crew.claim(16):
            await crew.carry_out(job)
        async with self.decider.pool.acquire() as connection:
            return str(await connection.fetchval("SELECT state FROM steps"))

    async def reported(self) -> dict[str, int]:
        async with self.decider.pool.acquire() as connection:
            newest = await connection.fetchval("SELECT max(id) FROM ticks")
            status = await ticks.status_of(connection, newest)
        return dict(status.counts.get(GAP_CHECK, {})) if status else {}


@pytest.fixture
async def here(database_url: str) -> AsyncIterator[Checking]:
    clock = StandingClock()
    async with a_decider(database_url, clock) as decider:
        yield Checking(decider, clock)


def an_event(event_id: str, at: datetime, event_type: str = "customer.subscription.updated") -> dict[str, Any]:
    return event_json(event_type, subscription_json(), at, event_id)


async def no_matter(_: int) -> None:
    return


async def test_ms_9_what_never_came_is_found_and_published_as_by_the_webhook_oldest_first(here: Checking) -> None:
    events = [an_event(f"evt_{number}", REAL_NOW - DAY + number * HOUR) for number in range(7)]
    here.happened(*events)
    await here.handled("evt_1", "evt_4")
    missed = await here.missed.find(REAL_NOW - 2 * DAY, REAL_NOW, no_matter)
    fed = await here.missed.feed(missed.events, no_matter)

    assert (missed.listed, missed.missing, fed.published) == (7, 5, 5)
    assert [message.message_id for message in here.publisher.messages] == ["evt_0", "evt_2", "evt_3", "evt_5", "evt_6"]
    first = here.publisher.messages[0]
    assert (first.type, first.account) == ("stripe.customer.subscription.updated", "user:ada")
    assert first.occurred_at == REAL_NOW - DAY
    assert orjson.loads(first.body) == events[0]


async def test_ms_9_what_was_fed_in_and_handled_is_no_longer_missing(here: Checking) -> None:
    here.happened(an_event("evt_1", REAL_NOW - HOUR))
    missed = await here.missed.find(REAL_NOW - DAY, REAL_NOW, no_matter)
    await here.missed.feed(missed.events, no_matter)
    [message] = here.publisher.messages
    await here.decider.decide([item_of(message, message.account, CATALOGUE)])
    assert (await here.missed.find(REAL_NOW - DAY, REAL_NOW, no_matter)).missing == 0


async def test_a_parked_message_is_not_missing(here: Checking) -> None:
    def fail(_: object) -> Any:
        raise ValueError("a bug")

    await here.decider.decide([an_item("evt_1", decide=fail)])
    here.happened(an_event("evt_1", REAL_NOW - HOUR))
    assert (await here.missed.find(REAL_NOW - DAY, REAL_NOW, no_matter)).missing == 0


async def test_a_type_that_we_do_not_handle_is_not_missing(here: Checking) -> None:
    here.happened(an_event("evt_1", REAL_NOW - HOUR, "charge.refunded.unheard_of"))
    assert (await here.missed.find(REAL_NOW - DAY, REAL_NOW, no_matter)).missing == 0


async def test_ms_6_one_that_names_nobody_is_parked_once_and_stops_no_other(here: Checking) -> None:
    nobodys = event_json("invoice.paid", {"id": "in_1", "object": "invoice"}, REAL_NOW - HOUR, "evt_nobody")
    here.happened(nobodys, an_event("evt_1", REAL_NOW - MINUTE))
    missed = await here.missed.find(REAL_NOW - DAY, REAL_NOW, no_matter)
    fed = await here.missed.feed(missed.events, no_matter)
    assert (fed.published, fed.parked) == (1, 1)
    assert (await here.missed.find(REAL_NOW - DAY, REAL_NOW, no_matter)).missing == 1, "the other one is on its way"


async def test_only_so_many_are_fed_in_at_once_the_oldest(here: Checking) -> None:
    many = [an_event(f"evt_{number}", REAL_NOW - HOUR) for number in range(MAX_FED + 3)]
    here.stripe.events, here.stripe.page_size = many, 1_000
    missed = await here.missed.find(REAL_NOW - DAY, REAL_NOW, no_matter)
    assert (missed.missing, len(missed.events)) == (MAX_FED + 3, MAX_FED)
    assert missed.events[-1]["id"] == many[-1]["id"]


async def test_ms_9_a_gap_is_reported_and_closed_by_the_check(here: Checking) -> None:
    here.happened(an_event("evt_1", REAL_NOW - HOUR), an_event("evt_2", REAL_NOW - 2 * HOUR))
    await here.handled("evt_2")
    assert await here.check() == "done"
    assert [message.message_id for message in here.publisher.messages] == ["evt_1"]
    assert await here.reported() == {"listed": 2, "found": 1, "changed": 1, "parked": 0}
    assert here.metrics.missed_events.labels("fed")._value.get() == 1


async def test_ms_9_more_than_is_fed_in_at_once_is_fed_in_bit_by_bit(here: Checking) -> None:
    here.max_fed = 2
    here.happened(*(an_event(f"evt_{number}", REAL_NOW - (9 - number) * HOUR) for number in range(3)))
    assert await here.check() == "due"
    assert [message.message_id for message in here.publisher.messages] == ["evt_0", "evt_1"]
    assert await here.reported() == {}, "the next tick would look back no further than to this one"

    await here.handled("evt_0", "evt_1")
    here.clock.real_now += MINUTE
    assert await here.work() == "done"
    assert [message.message_id for message in here.publisher.messages] == ["evt_0", "evt_1", "evt_2"]


async def test_ms_9_an_event_that_may_still_be_on_its_way_is_no_gap(here: Checking) -> None:
    here.happened(an_event("evt_1", REAL_NOW - 2 * MINUTE), an_event("evt_2", REAL_NOW - 6 * MINUTE))
    await here.check()
    assert [message.message_id for message in here.publisher.messages] == ["evt_2"]


async def test_a_check_that_fails_is_tried_again_and_counts_as_none(here: Checking) -> None:
    here.stripe.failures = [Retryable("Stripe did not answer in time")]
    assert await here.check() == "due"
    assert await here.reported() == {}
    here.clock.real_now += HOUR
    assert await here.check() == "done"


async def test_a_silent_broker_loses_no_event(here: Checking) -> None:
    here.happened(an_event("evt_1", REAL_NOW - HOUR))
    here.publisher.down = True
    assert await here.check() == "due"
    here.publisher.down = False
    here.clock.real_now += 10 * MINUTE
    await here.check()
    assert [message.message_id for message in here.publisher.messages] == ["evt_1"]


async def test_ms_9_a_check_looks_back_to_the_last_one_that_came_to_its_end(here: Checking) -> None:
    async with here.decider.pool.acquire() as connection:
        assert await looks_back_to(connection, REAL_NOW) == REAL_NOW - DAY
        await here.check()
        assert await looks_back_to(connection, REAL_NOW + HOUR) == REAL_NOW - 2 * HOUR
        assert await looks_back_to(connection, REAL_NOW + 10 * HOUR) == REAL_NOW - HOUR, "nobody checked for ten hours"
        assert await looks_back_to(connection, REAL_NOW + 40 * DAY) == REAL_NOW + 10 * DAY, "Stripe keeps no more"


def test_ms_8_a_later_tick_asks_for_the_same_check() -> None:
    first, second = (asking_for(GAP_CHECK, Tick(number, "hourly", NOW + number * HOUR)) for number in (1, 2))
    assert first.key == second.key == "system:gap_check"
    assert first.id != second.id
