"""A crew: claims what is due, up to its free places, and works on it concurrently."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import structlog

from bursar.billing.errors import Retryable, describe
from bursar.service.steps.bounds import JITTER, POLL_SECONDS

log = structlog.get_logger()

DRAIN_SECONDS = 50.0  # longer than any attempt may take

Job = TypeVar("Job")


class Crew(Generic[Job]):
    """`claim(n)` returns at most n jobs under a lease; `work(job)` does one; what it raises is logged."""

    def __init__(
        self,
        name: str,
        places: int,
        claim: Callable[[int], Awaitable[Sequence[Job]]],
        work: Callable[[Job], Awaitable[None]],
    ) -> None:
        self.name = name
        self._places = places
        self._claim = claim
        self._work = work
        self._wake = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._more_is_due = False

    def wake(self) -> None:
        """Look for work at once."""
        self._wake.set()

    @property
    def is_woken(self) -> bool:
        """Whether it will look for work at once."""
        return self._wake.is_set()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop, then finish what is under way."""
        stopped = asyncio.create_task(stop.wait())
        stopped.add_done_callback(lambda _: self.wake())
        try:
            while not stop.is_set():
                self._wake.clear()
                await self._take()
                await self._pause()
            await self._drain()
        finally:
            stopped.cancel()
            for task in self._running:
                task.cancel()

    async def _take(self) -> None:
        free = self._places - len(self._running)
        if free == 0:
            return
        try:
            jobs = await self._claim(free)
        except Retryable as error:
            log.warning("nothing can be claimed", crew=self.name, error=str(error))
            return
        self._more_is_due = len(jobs) == free
        for job in jobs:
            task = asyncio.create_task(self._do(job))
            self._running.add(task)
            task.add_done_callback(self._ended)

    async def _do(self, job: Job) -> None:
        try:
            await self._work(job)
        except Exception as error:  # noqa: BLE001 - one job's trouble stops no other; its lease ends (KC-78)
            log.error("job crashed", crew=self.name, error=describe(error))  # noqa: TRY400 - no traceback: it may hold an address

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Take on more once a quarter of the places is free: a claim for each would cost more than it brings."""
        self._running.discard(task)
        if self._more_is_due and len(self._running) * 4 <= self._places * 3:
            self.wake()

    async def _pause(self) -> None:
        seconds = POLL_SECONDS * random.uniform(1, 1 + JITTER)  # noqa: S311 - jitter, not a secret
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _drain(self) -> None:
        if self._running:
            await asyncio.wait(self._running, timeout=DRAIN_SECONDS)
