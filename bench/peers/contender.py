"""What every contender can do, and where its servers are."""

from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import aio_pika
import aio_pika.abc
import asyncpg

from bench.peers.events import Event

CONNECTIONS = 16  # to the database, of every peer that has a pool
AT_ONCE = 32  # jobs of a peer that run side by side: two a connection, so that none of these waits for work
FILL_PAGE = 500  # events handed over together, where a peer takes several
QUORUM: dict[str, Any] = {"x-queue-type": "quorum"}  # as safe as Bursar's own

Send = Callable[[Event], Coroutine[Any, Any, Any]]


@dataclass(frozen=True, slots=True)
class Addresses:
    """Of the servers; the database is this round's own."""

    database_url: str = field(repr=False)
    amqp_url: str = field(repr=False)


class Contender(Protocol):
    """One way to do the job. Each method runs in a process of its own."""

    async def prepare(self) -> None:
        """Lay out what it needs in a fresh database, and empty what an earlier round left at the broker."""

    async def fill(self, events: Sequence[Event]) -> None:
        """Queue all these events durably, as fast as may be: no part of what is measured."""

    def sending(self) -> AbstractAsyncContextManager[Send]:
        """How one event is queued durably when it comes in."""

    async def work(self) -> None:
        """Handle what is queued until the process is ended."""


async def open_pool(database_url: str) -> asyncpg.Pool:
    """A pool as wide as every peer's."""
    pool = await asyncpg.create_pool(database_url, min_size=CONNECTIONS, max_size=CONNECTIONS)
    assert pool is not None
    return pool


async def delete_queues(amqp_url: str, *names: str) -> None:
    """Have no such queues at the broker."""
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        for name in names:
            await channel.queue_delete(name)


def pages(events: Sequence[Event]) -> list[Sequence[Event]]:
    """The events in pages, in order."""
    return [events[start : start + FILL_PAGE] for start in range(0, len(events), FILL_PAGE)]


def persistent(event: Event) -> aio_pika.Message:
    """The event as a message of the broker's, which survives a restart."""
    mode = aio_pika.DeliveryMode.PERSISTENT
    return aio_pika.Message(event.body, message_id=event.id, headers={"account": event.account}, delivery_mode=mode)
