"""Watching a worker through a full queue: from its first delivery to its last commit."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aio_pika
import aio_pika.abc

from bench.processes import ProcessFailed, Usage, cpu_seconds, roots_in, usage
from bursar.billing.values import Value
from bursar.db.connections import Connection

POLL_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0  # counting what is handled takes PostgreSQL's time: seldom while much is left
MEMORY_SECONDS = 2.0  # who looks must not be in the way
PATIENCE_SECONDS = 180.0

FILLED_SECONDS = 10.0  # until the broker counts what was published

Begun = Callable[[], Awaitable[float | None]]  # when the work began, by time.perf_counter(); None while it has not


class Sight(Value):
    """How far the work was, at an instant."""

    at: float
    handled: int
    worker: Usage
    servers_cpu_seconds: float


@asynccontextmanager
async def deliveries(
    amqp_url: str, queues: Sequence[str], filled_with: int, patience_seconds: float = FILLED_SECONDS
) -> AsyncIterator[Begun | None]:
    """Says when the first of the messages in these queues was delivered; None without queues.

    Two looks must agree: the broker says 0 of a queue whose leader does not answer it in time.
    """
    if not queues:
        yield None
        return
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await _until_filled(channel, queues, filled_with, time.monotonic() + patience_seconds)

        async def has_begun() -> float | None:
            at = time.perf_counter()
            is_less = await _waiting(channel, queues) < filled_with
            return at if is_less and await _waiting(channel, queues) < filled_with else None

        yield has_begun


async def _until_filled(
    channel: aio_pika.abc.AbstractChannel, queues: Sequence[str], filled_with: int, deadline: float
) -> None:
    while (waiting := await _waiting(channel, queues)) != filled_with:
        if time.monotonic() > deadline:
            raise ProcessFailed(f"{filled_with} messages were published, {waiting} wait in the queues")
        await asyncio.sleep(POLL_SECONDS)


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

    async def to_the_end(self, has_begun: Begun | None) -> list[Sight]:
        """From what `has_begun` says, or the first commit that is seen, until all are handled; ProcessFailed if they
        are not in time.
        """
        began_at = await self._beginning(has_begun or self._has_handled)
        handled_before = 0 if has_begun else await self._handled()  # nothing is handled before it is delivered
        sights = [self._sight(handled_before, began_at)]
        while (handled := await self._handled()) < self._expected:
            self._require_life()
            if time.perf_counter() - sights[-1].at >= MEMORY_SECONDS:
                sights.append(self._sight(handled))
            await asyncio.sleep(_pause_seconds(sights[0], time.perf_counter(), handled, self._expected))
        return [*sights, self._sight(handled)]

    async def _beginning(self, has_begun: Begun) -> float:
        while (at := await has_begun()) is None:
            self._require_life()
            await asyncio.sleep(POLL_SECONDS)
        return at

    def _require_life(self) -> None:
        if self._worker.returncode is not None:
            raise ProcessFailed(f"the worker ended with {self._worker.returncode} before it was through")
        if time.monotonic() > self._deadline:
            raise ProcessFailed(f"{self._expected} events were not handled within {PATIENCE_SECONDS:.0f} s")

    async def _has_handled(self) -> float | None:
        return time.perf_counter() if await self._handled() else None

    async def _handled(self) -> int:
        handled: int = await self._connection.fetchval("SELECT count(*) FROM inbox")
        return handled

    def _sight(self, handled: int, at: float | None = None) -> Sight:
        return Sight(at or time.perf_counter(), handled, usage([self._worker.pid]), cpu_seconds(self._servers))


def _pause_seconds(first: Sight, now: float, handled: int, expected: int) -> float:
    """A quarter of the time that the rest should take: the end is seen within 50 ms, at a steady pace."""
    if handled <= first.handled:
        return POLL_SECONDS
    left = (now - first.at) / (handled - first.handled) * (expected - handled)
    return min(LONGEST_PAUSE_SECONDS, max(POLL_SECONDS, left / 4))
