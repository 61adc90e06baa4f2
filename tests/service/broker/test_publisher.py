import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import aio_pika
import orjson
import pytest

from bursar.billing.account import partition_of
from bursar.handlers.messages import ReceivedMessage
from bursar.service.broker import topology
from bursar.service.broker.forms import Headers, PartitionTick, Tick
from bursar.service.broker.publisher import MessagePublisher, NotConfirmed
from tests.service.broker.queues import Channel, taken, waiting

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
PARTITIONS = 2


@pytest.fixture
async def publisher(amqp_url: str) -> AsyncIterator[MessagePublisher]:
    opened = MessagePublisher(amqp_url, PARTITIONS)
    await opened.connect()
    yield opened
    await opened.close()


@pytest.fixture
async def channel(amqp_url: str) -> AsyncIterator[Channel]:
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        yield await connection.channel()


def message(number: int = 1) -> ReceivedMessage:
    return ReceivedMessage(
        f"evt_{number}",
        "stripe.invoice.paid",
        "user:u1",
        b'{"id": "evt_1"}',
        AT,
        "00-" + "1" * 32 + "-" + "2" * 16 + "-01",
    )


async def test_ms_2_a_message_waits_durably_in_the_partition_of_its_account(
    publisher: MessagePublisher, channel: Channel
) -> None:
    await publisher.publish(message())
    received = await taken(channel, topology.partition_queue(partition_of("user:u1", PARTITIONS)))
    assert (received.message_id, received.type, received.body) == ("evt_1", "stripe.invoice.paid", b'{"id": "evt_1"}')
    assert received.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert received.headers["account"] == "user:u1"
    assert received.headers["occurred_at"] == "2026-03-01T12:00:00+00:00"
    assert received.headers["schema"] == 1
    assert str(received.headers["traceparent"]).startswith("00-1111")
    assert Headers.model_validate(received.headers).occurred_at == AT  # as documented (MS-13)


async def test_ms_8_ticks_carry_their_sweep_and_instant(publisher: MessagePublisher, channel: Channel) -> None:
    await publisher.publish_tick("hourly", AT)
    await publisher.publish_partition_tick(7, "hourly", AT, 1)
    tick, part = await taken(channel, topology.TICKS), await taken(channel, topology.partition_queue(1))
    assert tick.message_id == "tick:hourly:2026-03-01T12:00:00+00:00"
    assert orjson.loads(tick.body) == {"sweep": "hourly", "due_at": "2026-03-01T12:00:00+00:00"}
    assert (part.message_id, part.type) == ("tick:hourly:2026-03-01T12:00:00+00:00:1", "tick")
    assert PartitionTick.model_validate_json(part.body) == PartitionTick(
        tick_id=7, sweep="hourly", due_at=AT, partition=1
    )
    assert Tick.model_validate_json(tick.body) == Tick(sweep="hourly", due_at=AT)


async def test_ms_2_an_unroutable_message_raises(publisher: MessagePublisher, channel: Channel) -> None:
    await channel.queue_delete(topology.partition_queue(partition_of("user:u1", PARTITIONS)))
    with pytest.raises(NotConfirmed, match="PublishError"):
        await publisher.publish(message())


async def test_a_broker_that_is_not_there_raises_at_once_between_attempts() -> None:
    publisher = MessagePublisher("amqp://guest:guest@127.0.0.1:1/", PARTITIONS, timeout_seconds=2)
    for _ in range(3):
        with pytest.raises(NotConfirmed):
            await publisher.publish(message())
    assert not publisher.is_connected


async def test_a_lost_connection_is_opened_again(publisher: MessagePublisher) -> None:
    await publisher.publish(message(1))
    assert publisher._connection
    await publisher._connection.close()
    publisher._next_attempt = 0.0
    await publisher.publish(message(2))
    assert publisher.is_connected


async def test_many_callers_share_the_channel(publisher: MessagePublisher, channel: Channel) -> None:
    await asyncio.gather(*(publisher.publish(message(number)) for number in range(200)))
    name = topology.partition_queue(partition_of("user:u1", PARTITIONS))
    assert await waiting(channel, name) == 200
