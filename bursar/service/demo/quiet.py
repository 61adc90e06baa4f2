"""Tells when the service has nothing left to do."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import asyncpg
from aio_pika.abc import AbstractChannel
from tenacity import AsyncRetrying, RetryError, retry_if_result, stop_after_delay, wait_fixed

from bursar.db.clock import real_now
from bursar.db.figures import figures
from bursar.service.broker.topology import TICKS, partition_queue
from bursar.service.demo.product import DemoFailedError

PARTITIONS = 32
LIMIT_SECONDS = 180.0
POLL_SECONDS = 0.05
CALM_SECONDS = 0.4  # nothing may change for so long: more than a batch in hand takes


class QuietWatch:
    """Asks the database and the broker, on connections of its own."""

    def __init__(self, connection: asyncpg.Connection, channel: AbstractChannel, queues: Sequence[str]) -> None:
        self._connection = connection
        self._channel = channel
        self._queues = queues
        self._last: Mapping[str, Any] = {}
        self._calm_since: float | None = None

    async def wait(self) -> None:
        """Return once nothing is queued, waiting or changing. Raises `DemoFailedError` after three minutes."""
        self._calm_since = None
        await self._wait_for(self._is_quiet)

    async def wait_until_settled(self) -> None:
        """Return once nothing waits in the database: enough after a tick that is done, which leaves no message behind.

        Raises `DemoFailedError` after three minutes.
        """
        await self._wait_for(self._is_settled)

    async def _wait_for(self, condition: Callable[[], Awaitable[bool]]) -> None:
        retrying = AsyncRetrying(
            retry=retry_if_result(lambda holds: not holds),
            wait=wait_fixed(POLL_SECONDS),
            stop=stop_after_delay(LIMIT_SECONDS),
        )
        try:
            await retrying(condition)
        except RetryError:
            waits = {name: self._last.get(name) for name in ("steps", "retries", "instances_not_brought_about")}
            raise DemoFailedError(f"the service was not done within {LIMIT_SECONDS:.0f} s: {waits}") from None

    async def _is_settled(self) -> bool:
        self._last = await figures(self._connection, real_now())
        return not something_waits(self._last)

    async def _is_quiet(self) -> bool:
        before, self._last = self._last, await figures(self._connection, real_now())
        if before != self._last or something_waits(self._last) or await self.something_is_queued():
            self._calm_since = None
            return False
        self._calm_since = self._calm_since or time.monotonic()
        return time.monotonic() - self._calm_since >= CALM_SECONDS

    async def something_is_queued(self) -> bool:
        """Whether a queue holds a message that nobody has taken."""
        for name in self._queues:
            queue = await self._channel.declare_queue(name, passive=True)
            if queue.declaration_result.message_count:
                return True
        return False


@asynccontextmanager
async def quiet_watch(database_url: str, amqp_url: str, partitions: int = PARTITIONS) -> AsyncIterator[QuietWatch]:
    """A watch over a running service; its queues must be declared."""
    connection = await asyncpg.connect(database_url)
    try:
        async with await aio_pika.connect(amqp_url) as broker:
            yield QuietWatch(connection, await broker.channel(), queues_of(partitions))
    finally:
        await connection.close()


def queues_of(partitions: int) -> tuple[str, ...]:
    """The queues that must be empty."""
    return (TICKS, *(partition_queue(partition) for partition in range(partitions)))


def something_waits(now: Mapping[str, Any]) -> bool:
    """Whether a step, a retry, an instance or a tick is not through, be it due now or later."""
    waiting = (now["steps"], now["retries"], now["instances_not_brought_about"])
    return bool(now["ticks_running"]) or any(one["due_now"] or one["due_later"] for one in waiting)
