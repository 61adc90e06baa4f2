"""The rate budget, on a clock that the test moves (MS-11)."""

import asyncio
import heapq
from collections.abc import Callable
from itertools import count

import pytest

from bursar.billing.errors import Retryable
from bursar.service.gateways.stripe.budget import AT_ONCE, Priority, RateBudget

PAYMENT, READ, SWEEP = Priority.PAYMENT, Priority.READ, Priority.SWEEP


class MovedAlarm:
    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback = callback
        self.is_set = True

    def cancel(self) -> None:
        self.is_set = False


class MovedClock:
    """Stands still until it is moved; then what is due rings in order."""

    def __init__(self) -> None:
        self._now = 1_000.0
        self._alarms: list[tuple[float, int, MovedAlarm]] = []
        self._numbers = count()

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[[], object], /) -> MovedAlarm:
        alarm = MovedAlarm(callback)
        heapq.heappush(self._alarms, (when, next(self._numbers), alarm))
        return alarm

    async def move(self, seconds: float) -> None:
        until = self._now + seconds
        await settle()
        while self._alarms and self._alarms[0][0] <= until:
            self._now, _, alarm = heapq.heappop(self._alarms)
            if alarm.is_set:
                alarm.callback()
            await settle()
        self._now = until


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


class Requests:
    """Requests that note when they start, and end when told."""

    def __init__(self, per_second: float) -> None:
        self.clock = MovedClock()
        self.budget = RateBudget(per_second, self.clock)
        self.started: list[tuple[Priority, float]] = []
        self.waited: list[float] = []
        self.end = asyncio.Event()
        self.end.set()

    async def make(self, priority: Priority, max_wait_seconds: float = 15) -> None:
        async with self.budget.slot(priority, max_wait_seconds) as waited_seconds:
            self.started.append((priority, self.clock.time() - 1_000))
            self.waited.append(waited_seconds)
            await self.end.wait()

    async def ask(self, *priorities: Priority, max_wait_seconds: float = 15) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(self.make(priority, max_wait_seconds)) for priority in priorities]
        await settle()
        return tasks


async def test_ms_11_no_second_sees_more_than_the_budget() -> None:
    requests = Requests(per_second=4)
    await requests.ask(*[READ] * 9)
    await requests.clock.move(10)
    assert [at for _, at in requests.started] == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]
    assert requests.waited == [at for _, at in requests.started]


async def test_ms_11_payments_go_before_reads_and_these_before_sweeps() -> None:
    requests = Requests(per_second=1)
    await requests.ask(SWEEP, SWEEP, READ, PAYMENT, READ, PAYMENT)
    await requests.clock.move(10)
    assert [priority for priority, _ in requests.started] == [SWEEP, PAYMENT, PAYMENT, READ, READ, SWEEP]


async def test_ms_11_a_retry_after_stops_every_class() -> None:
    requests = Requests(per_second=10)
    requests.budget.pause(7)
    await requests.ask(SWEEP, READ, PAYMENT)
    await requests.clock.move(6.9)
    assert requests.started == []
    await requests.clock.move(1)
    assert requests.started == [(PAYMENT, 7), (READ, pytest.approx(7.1)), (SWEEP, pytest.approx(7.2))]


async def test_a_pause_that_comes_while_others_wait_holds_for_them_too() -> None:
    requests = Requests(per_second=1)
    await requests.ask(READ, READ)
    requests.budget.pause(5)
    await requests.clock.move(4.9)
    assert requests.started == [(READ, 0)]
    await requests.clock.move(1)
    assert requests.started == [(READ, 0), (READ, 5)]


async def test_a_request_that_would_wait_too_long_is_refused_at_once() -> None:
    requests = Requests(per_second=10)
    requests.budget.pause(20)
    with pytest.raises(Retryable) as caught:
        await requests.make(PAYMENT)
    assert caught.value.retry_after_seconds == 20


async def test_a_request_that_others_overtake_gives_up_in_time() -> None:
    requests = Requests(per_second=1)
    *_, overtaken = await requests.ask(PAYMENT, SWEEP, max_wait_seconds=2)
    await requests.ask(PAYMENT, PAYMENT, PAYMENT)
    await requests.clock.move(10)
    assert isinstance(overtaken.exception(), Retryable)
    assert [priority for priority, _ in requests.started] == [PAYMENT] * 4


async def test_a_slow_stripe_leaves_room_for_those_that_go_first() -> None:
    requests = Requests(per_second=1_000)
    requests.end.clear()
    tasks = [task for priority in (SWEEP, READ, PAYMENT) for task in await requests.ask(*[priority] * 30)]
    await requests.clock.move(1)
    counts = [sum(priority == one for one, _ in requests.started) for priority in Priority]
    assert sum(counts) == AT_ONCE[PAYMENT]
    assert counts[PAYMENT] >= AT_ONCE[PAYMENT] - AT_ONCE[SWEEP]
    requests.end.set()
    await requests.clock.move(1)
    assert all(task.done() for task in tasks)


async def test_a_place_comes_free_whatever_becomes_of_its_request() -> None:
    clock = MovedClock()
    budget = RateBudget(1_000, clock)
    for _ in range(AT_ONCE[SWEEP] + 1):
        with pytest.raises(LookupError):
            async with budget.slot(SWEEP, 0):
                raise LookupError
        await clock.move(1)


async def test_who_is_cancelled_as_its_turn_comes_gives_it_back() -> None:
    requests = Requests(per_second=1_000)
    requests.end.clear()
    running = []
    for _ in range(AT_ONCE[SWEEP]):
        running += await requests.ask(SWEEP)
        await requests.clock.move(1)
    [waiting] = await requests.ask(SWEEP)
    await requests.clock.move(1)
    running[0].cancel()
    await asyncio.sleep(0)  # the one that ends gives its place to the one that waits, which has not run since
    waiting.cancel()
    await settle()
    assert waiting.cancelled()
    [another] = await requests.ask(SWEEP)
    await requests.clock.move(1)
    assert len(requests.started) == AT_ONCE[SWEEP] + 1
    requests.end.set()
    await asyncio.gather(another, *running, return_exceptions=True)
