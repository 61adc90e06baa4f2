"""Keeps long-running work running: restarted after a crash, with a pause that grows, until it is told to stop."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

log = structlog.get_logger()

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
JITTER = 0.5  # of the pause, at most
SETTLED_SECONDS = 10.0  # after so long without a crash the pauses begin anew
TRUSTED_SECONDS = 1.0  # after a crash, work is up again once it ran so long

Run = Callable[[asyncio.Event], Awaitable[None]]


@dataclass(slots=True)
class TaskState:
    """How supervised work fares, for readiness. `clock` is real time in seconds."""

    name: str
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    crashes_in_a_row: int = 0
    started_at: float | None = None
    error: str | None = None

    @property
    def is_up(self) -> bool:
        """Whether it runs; after a crash, whether it has run for a while."""
        if self.started_at is None:
            return False
        return self.crashes_in_a_row == 0 or self.clock() - self.started_at >= TRUSTED_SECONDS

    def starts(self) -> None:
        self.started_at = self.clock()

    def ends(self) -> None:
        self.started_at = None

    def crashes(self, error: BaseException | None) -> None:
        if self.started_at is not None and self.clock() - self.started_at >= SETTLED_SECONDS:
            self.crashes_in_a_row = 0
        self.crashes_in_a_row += 1
        self.error = type(error).__name__ if error else "ended by itself"
        self.ends()


def pause_seconds(crashes_in_a_row: int, jitter: Callable[[], float] = random.random) -> float:
    """How long to wait before the next start: 0.1 s doubling to 5 s, and up to a half more by chance."""
    doubled: float = FIRST_PAUSE_SECONDS * 2 ** min(crashes_in_a_row - 1, 16)
    return min(doubled, LONGEST_PAUSE_SECONDS) * (1 + JITTER * jitter())


async def wait_or_stop(stop: asyncio.Event, seconds: float) -> bool:
    """Wait so long, or less when told to stop: whether it was told."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True


async def supervise(
    name: str,
    run: Run,
    stop: asyncio.Event,
    *,
    state: TaskState | None = None,
    pause: Callable[[int], float] = pause_seconds,
) -> None:
    """Run it until `stop` is set and it has ended. A crash, or an end nobody asked for, is logged; it starts again."""
    state = state or TaskState(name)
    while not stop.is_set():
        state.starts()
        crash: Exception | None = None
        try:
            await run(stop)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on and this one is restarted
            crash = error
        if stop.is_set() and crash is None:
            break
        state.crashes(crash)
        seconds = pause(state.crashes_in_a_row)
        log.error("task crashed", task=name, crashes_in_a_row=state.crashes_in_a_row, pause=seconds, exc_info=crash)
        await wait_or_stop(stop, seconds)
    state.ends()
