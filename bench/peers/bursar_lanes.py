"""Bursar's own queues. The work is `bursar worker`'s; alone here runs in the product's environment."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aio_pika

from bench.peers.contender import Addresses, Send
from bench.peers.events import Event
from bench.peers.queues import PARTITIONS
from bursar.handlers.messages import STRIPE, ReceivedMessage
from bursar.service.broker.publisher import open_publisher
from bursar.service.broker.topology import declare, partition_queue

AT_ONCE = 256


class BursarLanes:
    """Publishes as the relay does: confirmed and persistent, to the partition of the account."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses

    async def prepare(self) -> None:
        async with await aio_pika.connect(self._addresses.amqp_url) as connection:
            channel = await connection.channel()
            await declare(channel, PARTITIONS)
            for partition in range(PARTITIONS):
                queue = await channel.get_queue(partition_queue(partition), ensure=False)
                await queue.purge()

    async def fill(self, events: Sequence[Event]) -> None:
        waiting = iter(events)
        async with self.sending() as send:

            async def courier() -> None:
                for event in waiting:
                    await send(event)

            await asyncio.gather(*(courier() for _ in range(AT_ONCE)))

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[Send]:
        async with open_publisher(self._addresses.amqp_url, PARTITIONS) as publisher:

            async def send(event: Event) -> None:
                await publisher.publish(ReceivedMessage(event.id, STRIPE + "invoice.paid", event.account, event.body))

            yield send

    async def work(self) -> None:
        raise NotImplementedError("`bursar worker` does it")


def contender(addresses: Addresses) -> BursarLanes:
    return BursarLanes(addresses)
