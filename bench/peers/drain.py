"""A limit: what aio-pika takes from Bursar's own queues when nothing is done with it. Says on standard output how fast.

A channel per partition, as Bursar has; what came in since is acknowledged together, fifty times a second.
"""

import asyncio
import json
import os
import sys
import time

import aio_pika
import aio_pika.abc

from bench.peers.contender import Addresses
from bench.peers.queues import PARTITION_QUEUES

PREFETCH = 512  # of each channel; it need not keep them
ACK_SECONDS = 0.02


class Drain:
    """Only works: the bench fills as for Bursar."""

    def __init__(self, addresses: Addresses) -> None:
        self._amqp_url = addresses.amqp_url
        self._newest: dict[str, aio_pika.abc.AbstractIncomingMessage] = {}
        self._taken = 0
        self._began = self._began_cpu = 0.0

    async def work(self) -> None:
        expected = int(os.environ["BENCH_EXPECTED"])
        async with await aio_pika.connect(self._amqp_url) as connection:
            for name in PARTITION_QUEUES:
                await self._consume(connection, name)
            while self._taken < expected or self._newest:
                await asyncio.sleep(ACK_SECONDS)
                await self._acknowledge()
            seconds = time.perf_counter() - self._began
            told = {"events": self._taken, "seconds": seconds, "cpu_seconds": time.process_time() - self._began_cpu}
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()
            await asyncio.Event().wait()

    async def _consume(self, connection: aio_pika.abc.AbstractConnection, name: str) -> None:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=PREFETCH)
        queue = await channel.get_queue(name, ensure=False)

        async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            self._began, self._began_cpu = self._began or time.perf_counter(), self._began_cpu or time.process_time()
            self._taken += 1
            self._newest[name] = message

        await queue.consume(take)

    async def _acknowledge(self) -> None:
        newest, self._newest = self._newest, {}
        for message in newest.values():
            await message.ack(multiple=True)


def contender(addresses: Addresses) -> Drain:
    return Drain(addresses)
