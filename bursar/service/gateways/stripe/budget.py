"""The rate budget of a process toward Stripe: payments go before reads, reads before sweeps (MS-11)."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from enum import IntEnum
from types import MappingProxyType
from typing import Protocol

from bursar.billing.errors import Retryable

STRIPE_ALLOWS_PER_SECOND = 100  # of a live account; 25 of a sandbox
MAX_CONNECTIONS = 16  # for what the steps read


class Priority(IntEnum):
    """Who goes first: what a person waits or pays for, what an event asked for, what nobody waits for."""

    PAYMENT = 0
    READ = 1
    SWEEP = 2


# A request starts only while fewer than so many run: a slow Stripe leaves room for those that go first.
AT_ONCE: Mapping[Priority, int] = MappingProxyType(
    {Priority.PAYMENT: MAX_CONNECTIONS + 8, Priority.READ: MAX_CONNECTIONS, Priority.SWEEP: MAX_CONNECTIONS // 2}
)


class Alarm(Protocol):
    """What `call_at` returns."""

    def cancel(self) -> None: ...


class MonotonicClock(Protocol):
    """Real time, in seconds of a clock that never goes back. An event loop is one."""

    def time(self) -> float: ...

    def call_at(self, when: float, callback: Callable[[], object], /) -> Alarm: ...


class RateBudget:
    """Starts requests evenly spaced, so that no second sees more than the budget, the most urgent that waits first."""

    def __init__(self, requests_per_second: float, clock: MonotonicClock | None = None) -> None:
        self._spacing_seconds = 1 / requests_per_second
        self._given_clock = clock
        self._waiting: dict[Priority, deque[asyncio.Future[None]]] = {priority: deque() for priority in Priority}
        self._running = 0
        self._next_at = float("-inf")
        self._alarm: Alarm | None = None

    @asynccontextmanager
    async def slot(self, priority: Priority, max_wait_seconds: float) -> AsyncIterator[float]:
        """Hold one request's place; yields the seconds waited for it. Raises `Retryable` where that would be longer."""
        asked_at = self._clock.time()
        await self._turn(priority, max_wait_seconds)
        try:
            yield self._clock.time() - asked_at
        finally:
            self._release()

    def pause(self, seconds: float) -> None:
        """Start nothing for so long: Stripe said so (`Retry-After`)."""
        self._next_at = max(self._next_at, self._clock.time() + seconds)

    @property
    def _clock(self) -> MonotonicClock:
        return self._given_clock or asyncio.get_running_loop()

    async def _turn(self, priority: Priority, max_wait_seconds: float) -> None:
        expected_seconds = self._expected_wait_seconds(priority)
        if expected_seconds > max_wait_seconds:
            raise Retryable("the budget of calls to Stripe is used up", retry_after_seconds=expected_seconds)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[priority].append(turn)
        self._start_what_may()
        if not turn.done():
            await self._wait(turn, priority, max_wait_seconds)

    async def _wait(self, turn: asyncio.Future[None], priority: Priority, max_wait_seconds: float) -> None:
        alarm = self._clock.call_at(self._clock.time() + max_wait_seconds, lambda: _give_up(turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and not turn.exception():
                self._release()  # it was given just as its owner was cancelled
            raise
        finally:
            alarm.cancel()
            with suppress(ValueError):
                self._waiting[priority].remove(turn)

    def _expected_wait_seconds(self, priority: Priority) -> float:
        ahead = sum(len(turns) for other, turns in self._waiting.items() if other <= priority)
        return max(self._next_at - self._clock.time(), 0) + ahead * self._spacing_seconds

    def _start_what_may(self) -> None:
        while turns := self._most_urgent():
            now = self._clock.time()
            if now < self._next_at:
                self._alarm = self._alarm or self._clock.call_at(self._next_at, self._on_alarm)
                return
            turn = turns.popleft()
            if not turn.done():
                self._next_at = now + self._spacing_seconds
                self._running += 1
                turn.set_result(None)

    def _most_urgent(self) -> deque[asyncio.Future[None]] | None:
        for priority, turns in self._waiting.items():
            if turns and self._running < AT_ONCE[priority]:
                return turns
        return None

    def _on_alarm(self) -> None:
        self._alarm = None
        self._start_what_may()

    def _release(self) -> None:
        self._running -= 1
        self._start_what_may()


def _give_up(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_exception(Retryable("the budget of calls to Stripe did not come round in time"))
