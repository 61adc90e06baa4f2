"""Outcomes that come in while a batch is decided are decided together in the next one."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from bursar.db.items import Item, Outcome
from bursar.service.deciding.decider import DatabaseUnavailable, Decider

MAX_TOGETHER = 64
# An answer that was got is worth keeping through an outage: its lease, if nobody took it, still counts.
KEEP_TRYING_SECONDS = 120.0

Result = TypeVar("Result")


async def patiently(write: Callable[[], Awaitable[Result]]) -> Result:
    """Write what is known, through an outage of at most two minutes; then DatabaseUnavailable."""
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(DatabaseUnavailable),
        stop=stop_after_delay(KEEP_TRYING_SECONDS),
        wait=wait_random_exponential(multiplier=0.1, max=2),
        reraise=True,
    ):
        with attempt:
            return await write()
    raise AssertionError("unreachable: the last attempt raises")


class Together:
    """One batch at a time; at most as many wait as the crews have places."""

    def __init__(self, decider: Decider) -> None:
        self._decider = decider
        self._waiting: deque[tuple[Item, asyncio.Future[Outcome]]] = deque()
        self._deciding: asyncio.Task[None] | None = None

    async def decide(self, item: Item) -> Outcome:
        """Decide on one outcome; DatabaseUnavailable when Postgres stays away for two minutes."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._deciding is None or self._deciding.done():
            self._deciding = asyncio.create_task(self._decide_all())
        return await future

    async def _decide_all(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(MAX_TOGETHER, len(self._waiting)))]
            try:
                outcomes = await patiently(partial(self._decider.decide, [item for item, _ in batch]))
            except Exception as error:  # noqa: BLE001 - told to those who wait
                _tell(batch, error)
            else:
                for (_, future), outcome in zip(batch, outcomes, strict=True):
                    if not future.done():
                        future.set_result(outcome)


def _tell(batch: Sequence[tuple[Item, asyncio.Future[Outcome]]], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
