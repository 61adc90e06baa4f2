"""Lanes decide together: what comes in while a batch is under way goes into the next, whatever partition it is from."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from typing import TypeVar

from bursar.db.batches import BATCHES_AT_ONCE, MAX_ITEMS
from bursar.db.connections import Connection
from bursar.db.items import Item, Outcome
from bursar.service.deciding.decider import Decider

Result = TypeVar("Result")
Request = tuple[Sequence[Item], "asyncio.Future[list[Outcome]]"]


class JointDecider:
    """Decides for many callers, each with one request at a time, which keeps a lane's order.

    A request is never split. At most `at_once` batches of at most `max_batch` items run; as many requests wait as there
    are callers.
    """

    def __init__(self, decider: Decider, *, max_batch: int = MAX_ITEMS, at_once: int = BATCHES_AT_ONCE) -> None:
        self._decider = decider
        self._max_batch = max_batch
        self._at_once = at_once
        self._waiting: deque[Request] = deque()
        self._working: set[asyncio.Task[None]] = set()

    async def decide(self, items: Sequence[Item]) -> list[Outcome]:
        """Decide the items in order; what the batch raises is raised to every caller in it."""
        future: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        self._waiting.append((items, future))
        if len(self._working) < self._at_once:
            task = asyncio.create_task(self._work())
            self._working.add(task)
            task.add_done_callback(self._working.discard)
        return await future

    async def with_connection(self, work: Callable[[Connection], Awaitable[Result]]) -> Result:
        """Do `work` with a connection; DatabaseUnavailable when there is none."""
        return await self._decider.with_connection(work)

    async def _work(self) -> None:
        while self._waiting:
            requests = self._next_batch()
            try:
                outcomes = await self._decider.decide(list(chain.from_iterable(items for items, _ in requests)))
            except Exception as error:  # noqa: BLE001 - told to those who wait
                for _, future in requests:
                    if not future.done():
                        future.set_exception(error)
            else:
                _answer(requests, outcomes)

    def _next_batch(self) -> list[Request]:
        """The first request, and those behind it that fit."""
        batch = [self._waiting.popleft()]
        size = len(batch[0][0])
        while self._waiting and size + len(self._waiting[0][0]) <= self._max_batch:
            size += len(self._waiting[0][0])
            batch.append(self._waiting.popleft())
        return batch


def _answer(requests: Sequence[Request], outcomes: Sequence[Outcome]) -> None:
    start = 0
    for items, future in requests:
        end = start + len(items)
        if not future.done():
            future.set_result(list(outcomes[start:end]))
        start = end
