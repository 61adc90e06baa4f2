"""A loop written by hand on aio-pika and asyncpg: one queue, a task per message, a transaction each, then the ack.

The account's row lock serialises a user. It does not keep the order of a user's events, and retries nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aio_pika
import aio_pika.abc
import asyncpg

from bench.peers.contender import AT_ONCE, QUORUM, Addresses, Send, delete_queues, open_pool, persistent
from bench.peers.events import Event
from bench.peers.job import follow_up, job
from bench.peers.queues import BY_HAND
from bench.peers.running_jobs import with_asyncpg

PREFETCH = 2 * AT_ONCE  # the next ones are here while these are worked on
PUBLISHING_AT_ONCE = 256


class ByHand:
    """What a team writes in an afternoon, and is proud of."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses

    async def prepare(self) -> None:
        await delete_queues(self._addresses.amqp_url, BY_HAND)

    async def fill(self, events: Sequence[Event]) -> None:
        waiting = iter(events)
        async with self.sending() as send:

            async def courier() -> None:
                for event in waiting:
                    await send(event)

            await asyncio.gather(*(courier() for _ in range(PUBLISHING_AT_ONCE)))

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[Send]:
        async with await aio_pika.connect(self._addresses.amqp_url) as connection:
            channel = await connection.channel()
            await channel.declare_queue(BY_HAND, durable=True, arguments=QUORUM)

            async def send(event: Event) -> None:
                await channel.default_exchange.publish(persistent(event), BY_HAND)

            yield send

    async def work(self) -> None:
        pool = await open_pool(self._addresses.database_url)
        async with await aio_pika.connect(self._addresses.amqp_url) as connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=PREFETCH)
            queue = await channel.declare_queue(BY_HAND, durable=True, arguments=QUORUM)

            async def handle(message: aio_pika.abc.AbstractIncomingMessage) -> None:
                await _handle(pool, message)

            await queue.consume(handle)
            await asyncio.Event().wait()


async def _handle(pool: asyncpg.Pool, message: aio_pika.abc.AbstractIncomingMessage) -> None:
    event = Event(str(message.message_id), str(message.headers["account"]), message.body)
    async with pool.acquire() as connection, connection.transaction():
        if await with_asyncpg(connection, job(event)):
            await connection.execute(follow_up(event)[0], *follow_up(event)[1])
    await message.ack()


def contender(addresses: Addresses) -> ByHand:
    return ByHand(addresses)
