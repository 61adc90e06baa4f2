import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from bursar.billing.errors import Retryable, UnreadableMessage
from bursar.db import ticks
from bursar.db.connections import Connection
from bursar.service.observability.metrics import Metrics
from bursar.service.ticks.expanding import LOST_AFTER, TickExpander
from bursar.service.ticks.paging import Sweeping
from bursar.service.ticks.scheduler import LEADERSHIP, Scheduler
from tests.billing.kiloclaw.making import CATALOGUE, HOUR, NOW
from tests.db.deciding import StandingClock, a_decider
from tests.service.partition_ticks import tick_message

PATIENCE_SECONDS = 10.0


@dataclass
class FakePublisher:
    ticks: list[tuple[str, datetime]] = field(default_factory=list)
    partitions: list[tuple[str, datetime, int]] = field(default_factory=list)
    failures: int = 0

    async def publish_tick(self, sweep: str, due_at: datetime, traceparent: str | None = None) -> None:  # noqa: ARG002
        self._maybe_fail()
        self.ticks.append((sweep, due_at))

    async def publish_partition_tick(self, tick_id: int, sweep: str, due_at: datetime, partition: int) -> None:  # noqa: ARG002
        self._maybe_fail()
        self.partitions.append((sweep, due_at, partition))

    def _maybe_fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise Retryable("the broker is silent")


def a_scheduler(database_url: str, clock: StandingClock, publisher: FakePublisher) -> Scheduler:
    return Scheduler(database_url, clock, publisher, Metrics())


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not is_so():  # noqa: ASYNC110 - what is awaited has no event
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running(*schedulers: Scheduler) -> AsyncIterator[None]:
    stop = asyncio.Event()
    tasks = [asyncio.create_task(one.run(stop)) for one in schedulers]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def test_ms_8_a_tick_at_each_full_hour_and_only_one(database_url: str, connection: Connection) -> None:
    clock, publisher = StandingClock(NOW + timedelta(minutes=59)), FakePublisher()
    for scheduler in (a_scheduler(database_url, clock, publisher), a_scheduler(database_url, clock, publisher)):
        await scheduler.tick(connection)
        await scheduler.tick(connection)
    assert publisher.ticks == [("hourly", NOW)]
    clock.now += timedelta(minutes=1)
    await scheduler.tick(connection)

    assert publisher.ticks == [("hourly", NOW), ("hourly", NOW + HOUR)]


async def test_ms_8_after_an_outage_the_latest_missed_hour_is_caught_up(
    database_url: str, connection: Connection
) -> None:
    clock, publisher = StandingClock(NOW), FakePublisher()
    await a_scheduler(database_url, clock, publisher).tick(connection)
    clock.now += 5.5 * HOUR
    await a_scheduler(database_url, clock, publisher).tick(connection)

    assert publisher.ticks == [("hourly", NOW), ("hourly", NOW + 5 * HOUR)]


async def test_ms_8_a_tick_that_was_not_published_is_found_again(database_url: str, connection: Connection) -> None:
    clock, publisher = StandingClock(NOW), FakePublisher(failures=1)
    with pytest.raises(Retryable):
        await a_scheduler(database_url, clock, publisher).tick(connection)
    successor = a_scheduler(database_url, clock, publisher)
    clock.real_now += LOST_AFTER
    await successor.tick(connection)
    await successor.tick(connection)  # whoever expands ticks may be down: not every second

    assert publisher.ticks == [("hourly", NOW)]


async def test_ms_8_an_expanded_tick_is_not_found_again(database_url: str, connection: Connection) -> None:
    clock, publisher = StandingClock(NOW), FakePublisher()
    async with a_decider(database_url, clock) as decider:
        await a_scheduler(database_url, clock, publisher).tick(connection)
        await TickExpander(decider, publisher).expand("hourly", NOW)
    clock.real_now += 2 * LOST_AFTER
    await a_scheduler(database_url, clock, publisher).tick(connection)

    assert publisher.ticks == [("hourly", NOW)]
    assert publisher.partitions == [("hourly", NOW, partition) for partition in range(32)]


async def test_ms_8_an_expansion_that_dies_in_the_middle_is_found_again(
    database_url: str, connection: Connection
) -> None:
    clock, publisher = StandingClock(NOW), FakePublisher()
    async with a_decider(database_url, clock) as decider:
        expander = TickExpander(decider, publisher)
        await expander._publisher.publish_partition_tick(1, "hourly", NOW, 0)
        publisher.failures = 1
        with pytest.raises(Retryable):
            await expander.expand("hourly", NOW)

    assert [tick.sweep for tick in await ticks.unexpanded(connection, clock.real_now, 10)] == ["hourly"]


async def test_ms_6_an_unknown_sweep_is_refused(database_url: str) -> None:
    async with a_decider(database_url) as decider:
        with pytest.raises(UnreadableMessage):
            await TickExpander(decider, FakePublisher()).expand("party", NOW)


async def test_ms_8_one_leads_and_another_takes_over_within_half_a_second(
    database_url: str, connection: Connection
) -> None:
    clock, publisher = StandingClock(NOW), FakePublisher()
    one, other = (a_scheduler(database_url, clock, publisher) for _ in range(2))
    async with running(one, other):
        await until(lambda: one.is_leading or other.is_leading)
        assert one.is_leading != other.is_leading
        leader, standby = (one, other) if one.is_leading else (other, one)
        await until(lambda: len(publisher.ticks) == 1)
        await kill_leader(connection)
        began = time.perf_counter()
        await until(lambda: standby.is_leading)
        assert time.perf_counter() - began < 1.0  # half a second on an idle machine
        await until(lambda: not leader.is_leading)
    assert not one.is_leading
    assert not other.is_leading
    assert publisher.ticks == [("hourly", NOW)]


async def kill_leader(connection: Connection) -> None:
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1", LEADERSHIP
    )


async def test_a_scheduler_waits_for_a_database_that_is_away() -> None:
    scheduler = a_scheduler("postgresql://nobody@127.0.0.1:1/none", StandingClock(), FakePublisher())
    stop = asyncio.Event()
    task = asyncio.create_task(scheduler.run(stop))
    await asyncio.sleep(0)
    stop.set()
    await asyncio.wait_for(task, PATIENCE_SECONDS)

    assert not scheduler.is_leading


async def test_kc_80_a_tick_is_done_once_all_its_partitions_are(database_url: str) -> None:
    clock, publisher = StandingClock(NOW), FakePublisher()
    async with a_decider(database_url, clock) as decider:
        tick = await TickExpander(decider, publisher).expand("trial_expiry", NOW)
        sweeps = Sweeping(decider, CATALOGUE)
        async with decider.pool.acquire() as reading:
            for partition in range(32):
                status = await ticks.status_of(reading, tick.id)
                assert status is not None
                assert status.state == "running"
                await sweeps.begin(tick_message("trial_expiry", NOW, partition))
                await sweeps.page(partition)
            status = await ticks.status_of(reading, tick.id)
            assert status is not None
            assert status.state == "done"
            assert status.counts["trial_expiry"]["found"] == 0
            assert await ticks.status_of(reading, 0) is None
