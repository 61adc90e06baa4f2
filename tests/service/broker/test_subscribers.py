import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aio_pika
import asyncpg

from bursar.billing.errors import UnreadableMessage
from bursar.service.broker import topology
from bursar.service.broker.connecting import connect
from bursar.service.broker.publisher import NotConfirmed, open_publisher
from bursar.service.broker.subscribers import Subscribers
from tests.service.broker.queues import waiting
from tests.service.broker.working import DEADLINE_SECONDS, a_decider, until

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class Expanding:
    """Sends ticks on; the first ones fail so often."""

    failures: int = 0
    ticks: list[tuple[str, datetime]] = field(default_factory=list)

    async def __call__(self, sweep: str, due_at: datetime) -> None:
        if self.failures:
            self.failures -= 1
            raise NotConfirmed("the broker did not take the message")
        if sweep == "nonsense":
            raise UnreadableMessage("there is no sweep 'nonsense'")
        self.ticks.append((sweep, due_at))


@asynccontextmanager
async def subscribed(amqp_url: str, database_url: str, expanding: Expanding) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    async with a_decider(database_url) as decider:
        subscribers = Subscribers(amqp_url, 1, expand=expanding, database=decider)
        task = asyncio.create_task(subscribers.run(stop))
        try:
            yield stop
        finally:
            stop.set()
            await asyncio.wait_for(task, DEADLINE_SECONDS)


async def put(amqp_url: str, exchange: str, message: aio_pika.Message) -> None:
    connection = await connect(amqp_url, "test")
    async with connection:
        channel = await connection.channel()
        await (await channel.get_exchange(exchange)).publish(message, exchange)


async def test_ms_8_a_tick_is_sent_on_once_the_trouble_is_over(amqp_url: str, database_url: str) -> None:
    expanding = Expanding(failures=2)
    async with open_publisher(amqp_url, 1) as publisher, subscribed(amqp_url, database_url, expanding):
        await publisher.publish_tick("hourly", AT)
        await until(lambda: expanding.ticks == [("hourly", AT)])


async def test_ms_6_an_unreadable_tick_is_written_down_and_the_next_goes_on(
    amqp_url: str, database_url: str, connection: asyncpg.Connection
) -> None:
    expanding = Expanding()
    async with open_publisher(amqp_url, 1) as publisher, subscribed(amqp_url, database_url, expanding):
        await put(amqp_url, topology.TICKS, aio_pika.Message(b"not json", message_id="t1", type="tick"))
        await put(amqp_url, topology.TICKS, aio_pika.Message(b'{"sweep": 5}', content_type="application/json"))
        await publisher.publish_tick("nonsense", AT)
        await publisher.publish_tick("hourly", AT)
        await until(lambda: expanding.ticks == [("hourly", AT)])
    rows = await connection.fetch("SELECT message_id, state, error FROM parked_messages")
    assert len(rows) == 3
    assert {row["state"] for row in rows} == {"parked"}
    assert any("there is no sweep" in row["error"] for row in rows)


async def test_ms_2_dead_letters_move_into_the_table_where_operators_work(
    amqp_url: str, database_url: str, connection: asyncpg.Connection
) -> None:
    async with open_publisher(amqp_url, 1), subscribed(amqp_url, database_url, Expanding()):
        headers: dict[str, Any] = {"account": "user:u1", "x-death": [{"count": 3, "time": AT, "queue": "q"}]}
        await put(amqp_url, topology.DEAD, aio_pika.Message(b"{}", message_id="m1", type="stripe.x", headers=headers))
        row = None
        async with asyncio.timeout(DEADLINE_SECONDS):
            while row is None:
                row = await connection.fetchrow("SELECT message_id, account_key, state, type FROM parked_messages")
        assert tuple(row) == ("m1", "user:u1", "parked", "stripe.x")


async def test_ms_7_a_dead_letter_whose_effect_is_saved_is_not_there_to_be_replayed(
    amqp_url: str, database_url: str, connection: asyncpg.Connection
) -> None:
    await connection.execute("INSERT INTO inbox (message_id, received_at) VALUES ('m1', $1)", AT)
    async with open_publisher(amqp_url, 1), subscribed(amqp_url, database_url, Expanding()):
        for message_id in ("m1", "m2"):
            await put(amqp_url, topology.DEAD, aio_pika.Message(b"{}", message_id=message_id, type="stripe.x"))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not await connection.fetchval("SELECT EXISTS (SELECT FROM inbox WHERE message_id = 'm2')"):
                pass
    assert [row["message_id"] for row in await connection.fetch("SELECT message_id FROM parked_messages")] == ["m2"]


async def test_ms_12_a_tick_that_cannot_be_sent_on_goes_back_when_stopped(amqp_url: str, database_url: str) -> None:
    expanding = Expanding(failures=1_000)
    async with open_publisher(amqp_url, 1) as publisher:
        async with subscribed(amqp_url, database_url, expanding):
            await publisher.publish_tick("hourly", AT)
            await until(lambda: expanding.failures < 999)
        opened = await connect(amqp_url, "test")
        async with opened:
            channel = await opened.channel()
            assert await waiting(channel, topology.TICKS) == 1
