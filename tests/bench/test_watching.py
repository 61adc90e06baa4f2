import asyncio
import sys
from pathlib import Path

import aio_pika
import aio_pika.abc
import asyncpg
import pytest

from bench.peers.contender import QUORUM
from bench.processes import ProcessFailed, Usage, running
from bench.rounds import throughput_of
from bench.watching import Sight, Watch, deliveries

QUEUE = "bench.test_watching"
SLEEPING = (sys.executable, "-c", "import time; time.sleep(60)")
ENDING = (sys.executable, "-c", "")
LIMIT_SECONDS = 20.0


async def test_the_clock_starts_when_the_broker_has_delivered_something(amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=1)
        queue = await channel.declare_queue(QUEUE, durable=True, arguments=QUORUM)
        for number in range(3):
            await channel.default_exchange.publish(aio_pika.Message(b"%d" % number), QUEUE)
        async with deliveries(amqp_url, [QUEUE], filled_with=3) as has_begun:
            assert has_begun
            assert await has_begun() is None
            received = asyncio.Event()

            async def take(_: aio_pika.abc.AbstractIncomingMessage) -> None:
                received.set()

            await queue.consume(take)  # and never acknowledged
            async with asyncio.timeout(LIMIT_SECONDS):
                await received.wait()
                while not await has_begun():  # noqa: ASYNC110 - what is awaited has no event
                    await asyncio.sleep(0.01)
        await queue.delete(if_unused=False, if_empty=False)


async def test_a_queue_that_does_not_hold_what_was_published_is_told(amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(QUEUE, durable=True, arguments=QUORUM)
        with pytest.raises(ProcessFailed, match="3 messages were published, 0 wait"):
            async with deliveries(amqp_url, [QUEUE], filled_with=3, patience_seconds=0.1):
                pass
        await queue.delete(if_unused=False, if_empty=False)


async def test_who_takes_from_no_queue_of_the_broker_is_watched_from_the_first_commit(amqp_url: str) -> None:
    async with deliveries(amqp_url, (), filled_with=3) as has_begun:
        assert has_begun is None


async def handled(connection: asyncpg.Connection, *events: str) -> None:
    await connection.executemany(
        "INSERT INTO inbox (message_id, received_at) VALUES ($1, now())", [(event,) for event in events]
    )


async def test_the_first_sight_is_of_the_beginning_and_the_last_of_the_end(
    database_url: str, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    looking, coming, begun = await asyncpg.connect(database_url), iter("ab"), asyncio.Event()

    async def has_begun() -> float | None:
        event = next(coming)
        await handled(looking, event)
        if event == "b":
            begun.set()
        return 1.5 if begun.is_set() else None

    async with running(SLEEPING, {}, tmp_path / "log") as worker, asyncio.timeout(LIMIT_SECONDS):
        watching = asyncio.create_task(Watch(worker, looking, None, 3).to_the_end(has_begun))
        await begun.wait()
        await handled(connection, "c")
        sights = await watching
    await looking.close()
    assert (sights[0].at, sights[0].handled) == (1.5, 0)  # whatever was committed while it was looked for
    assert sights[-1].handled == 3


def test_the_rate_is_between_the_first_sight_and_the_last() -> None:
    nothing = Usage(1.0, 1 << 20)
    sights = [Sight(10.0, 0, nothing, 5.0), Sight(11.0, 90, nothing, 5.5), Sight(12.0, 100, Usage(2.0, 2 << 20), 6.0)]
    told = throughput_of(sights, has_servers=True)
    assert (told.events_per_second, told.cpu_seconds_per_thousand) == (50.0, 10.0)
    assert (told.servers_cpu_seconds_per_thousand, told.memory_mb) == (10.0, 2.0)


async def test_a_worker_that_ends_before_it_is_through_is_told(database_url: str, tmp_path: Path) -> None:
    async with running(ENDING, {}, tmp_path / "log") as worker:
        await worker.wait()
        looking = await asyncpg.connect(database_url)
        with pytest.raises(ProcessFailed):
            await Watch(worker, looking, None, 2).to_the_end(None)
        await looking.close()
