"""Lanes decide together: what comes in while a batch is under way goes into the next, whatever partition it is from."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from typing import TypeVar

from bursar.billing.values import Value
from bursar.db.batches import BATCHES_AT_ONCE, MAX_ITEMS
from bursar.db.connections import Connection
from bursar.db.items import Item, Outcome
from bursar.service.deciding.decider import Decider

WORTH_ANOTHER = 0.25  # of a full batch must wait: what its statements cost an item is little by then
PATIENCE_SECONDS = 0.05  # several small batches' time: the one under way is held up

Result = TypeVar("Result")


class _Request(Value):
    items: Sequence[Item]
    answer: "asyncio.Future[list[Outcome]]"
    came_at: float  # by the loop's clock


class JointDecider:
    """Decides for many callers, each with one request at a time, which keeps a lane's order.

    A request is never split. At most `at_once` batches of at most `max_batch` items run; another beside one under way
    only if it is worth its statements, or the first request has waited for `patience_seconds`: small ones would be in
    each other's way. As many requests wait as there are callers.
    """

    def __init__(
        self,
        decider: Decider,
        *,
        max_batch: int = MAX_ITEMS,
        at_once: int = BATCHES_AT_ONCE,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._decider = decider
        self._max_batch = max_batch
        self._at_once = at_once
        self._patience_seconds = patience_seconds
        self._waiting: deque[_Request] = deque()
        self._waiting_items = 0
        self._working: set[asyncio.Task[None]] = set()
        self._look_again: asyncio.TimerHandle | None = None

    async def decide(self, items: Sequence[Item]) -> list[Outcome]:
        """Decide the items in order; what the batch raises is raised to every caller in it."""
        loop = asyncio.get_running_loop()
        request = _Request(items, loop.create_future(), loop.time())
        self._waiting.append(request)
        self._waiting_items += len(items)
        self._begin_if_due(loop)
        return await request.answer

    async def with_connection(self, work: Callable[[Connection], Awaitable[Result]]) -> Result:
        """Do `work` with a connection; DatabaseUnavailable when there is none."""
        return await self._decider.with_connection(work)

    def _begin_if_due(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._waiting or len(self._working) == self._at_once:
            return
        if self._is_worth_it(beside=len(self._working), now=loop.time()):
            self._working.add(loop.create_task(self._work()))
        elif not self._look_again:
            self._look_again = loop.call_at(self._waiting[0].came_at + self._patience_seconds, self._look, loop)

    def _is_worth_it(self, *, beside: int, now: float) -> bool:
        """Whether what waits is worth a batch of its own beside so many others."""
        is_much = self._waiting_items >= self._max_batch * WORTH_ANOTHER
        return not beside or is_much or self._waiting[0].came_at + self._patience_seconds <= now

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._look_again = None
        self._begin_if_due(loop)

    async def _work(self) -> None:
        """One batch after the other, for as long as each is worth it: what is left then is for those beside it."""
        loop = asyncio.get_running_loop()
        try:
            while self._waiting and self._is_worth_it(beside=len(self._working) - 1, now=loop.time()):
                await self._decide_next()
                await asyncio.sleep(0)  # who has an answer may have more to ask, which belongs into the next batch
        finally:
            self._working -= {asyncio.current_task()}  # at once: a request that comes now needs another
        self._begin_if_due(loop)

    async def _decide_next(self) -> None:
        batch = self._next_batch()
        try:
            outcomes = await self._decider.decide(list(chain.from_iterable(request.items for request in batch)))
        except Exception as error:  # noqa: BLE001 - told to those who wait
            for request in batch:
                if not request.answer.done():
                    request.answer.set_exception(error)
        else:
            _answer(batch, outcomes)

    def _next_batch(self) -> list[_Request]:
        """The first request, and those behind it that fit."""
        batch = [self._waiting.popleft()]
        size = len(batch[0].items)
        while self._waiting and size + len(self._waiting[0].items) <= self._max_batch:
            size += len(self._waiting[0].items)
            batch.append(self._waiting.popleft())
        self._waiting_items -= size
        return batch


def _answer(batch: Sequence[_Request], outcomes: Sequence[Outcome]) -> None:
    start = 0
    for request in batch:
        end = start + len(request.items)
        if not request.answer.done():
            request.answer.set_result(list(outcomes[start:end]))
        start = end
