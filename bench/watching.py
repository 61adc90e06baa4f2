"""Watching a worker through a full queue: from its first delivery to its last commit."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aio_pika
import aio_pika.abc

from bench.processes import ProcessFailed, Usage, cpu_seconds, roots_in, usage
from bursar.billing.immutable import immutable
from bursar.db.connections import Connection

POLL_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0  # counting what is handled takes PostgreSQL's time: seldom while much is left
MEMORY_SECONDS = 2.0  # who looks must not be in the way
PATIENCE_SECONDS = 180.0

IsTrue = Callable[[], Awaitable[bool]]


@immutable()
class Sight:
    """How far the work was, at an instant."""

    at: float
    handled: int
    worker: Usage
    servers_cpu_seconds: float


@asynccontextmanager
async def deliveries(amqp_url: str, queues: Sequence[str]) -> AsyncIterator[IsTrue | None]:
    """Says whether one of the messages that these queues hold now was delivered; None without queues."""
    if not queues:
        yield None
        return
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        full = await _waiting(channel, queues)

        async def has_begun() -> bool:
            return await _waiting(channel, queues) < full

        yield has_begun


async def _waiting(channel: aio_pika.abc.AbstractChannel, queues: Sequence[str]) -> int:
    """Messages that were not delivered yet."""
    declared = await asyncio.gather(*(channel.declare_queue(name, passive=True) for name in queues))
    return sum(queue.declaration_result.message_count or 0 for queue in declared)


class Watch:
    """Looks at the inbox, and at the processes that fill it. `servers_folder` is None where they are not ours."""

    def __init__(
        self, worker: asyncio.subprocess.Process, connection: Connection, servers_folder: Path | None, expected: int
    ) -> None:
        self._worker = worker
        self._connection = connection
        self._servers = roots_in(servers_folder) if servers_folder else set()
        self._expected = expected
        self._deadline = time.monotonic() + PATIENCE_SECONDS

    @property
    def sees_servers(self) -> bool:
        """Whether the servers' processor time is known."""
        return bool(self._servers)

    async def to_the_end(self, has_begun: IsTrue | None) -> list[Sight]:
        """From `has_begun`, or the first commit that is seen, until all are handled; ProcessFailed if not in time."""
        await self._until(has_begun or self._has_handled)
        sights = [self._sight(await self._handled())]
        while (handled := await self._handled()) < self._expected:
            self._require_life()
            if time.perf_counter() - sights[-1].at >= MEMORY_SECONDS:
                sights.append(self._sight(handled))
            await asyncio.sleep(_pause_seconds(sights[0], time.perf_counter(), handled, self._expected))
        return [*sights, self._sight(handled)]

    async def _until(self, is_true: IsTrue) -> None:
        while not await is_true():
            self._require_life()
            await asyncio.sleep(POLL_SECONDS)

    def _require_life(self) -> None:
        if time.monotonic() > self._deadline or self._worker.returncode is not None:
            raise ProcessFailed(f"{self._expected} events were not handled within {PATIENCE_SECONDS:.0f} s")

    async def _has_handled(self) -> bool:
        return await self._handled() > 0

    async def _handled(self) -> int:
        handled: int = await self._connection.fetchval("SELECT count(*) FROM inbox")
        return handled

    def _sight(self, handled: int) -> Sight:
        return Sight(time.perf_counter(), handled, usage([self._worker.pid]), cpu_seconds(self._servers))


def _pause_seconds(first: Sight, now: float, handled: int, expected: int) -> float:
    """A quarter of the time that the rest will take, so that the end is seen within 50 ms."""
    if handled <= first.handled:
        return POLL_SECONDS
    left = (now - first.at) / (handled - first.handled) * (expected - handled)
    return min(LONGEST_PAUSE_SECONDS, max(POLL_SECONDS, left / 4))
