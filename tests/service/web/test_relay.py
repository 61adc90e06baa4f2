"""The relay with the real publisher and a real broker: what is answered 2xx lies in its partition (MS-1, MS-2)."""

import asyncio
from collections.abc import AsyncIterator

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

from bursar.billing.account import partition_of
from bursar.service.broker.publisher import open_publisher
from bursar.service.broker.topology import TICKS, partition_queue
from bursar.service.deciding.decider import Decider
from tests.service.web.serving import CRON, Served, an_event_body, served

PARTITIONS = 2
QUEUE = partition_queue(partition_of("user:ada", PARTITIONS))


@pytest.fixture
async def relay(amqp_url: str, decider: Decider) -> AsyncIterator[Served]:
    async with open_publisher(amqp_url, PARTITIONS) as publisher, served(decider, publisher) as running:
        yield running


@pytest.fixture
async def channel(amqp_url: str, relay: Served) -> AsyncIterator[AbstractChannel]:  # noqa: ARG001 - declares the queues
    async with await aio_pika.connect(amqp_url) as connection:
        yield await connection.channel()


async def test_ms_2_an_accepted_event_lies_in_its_partition(relay: Served, channel: AbstractChannel) -> None:
    body = an_event_body(event_id="evt_7")
    answer = await relay.send(body, traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    assert answer.status_code == 200

    message = await first_of(await channel.get_queue(QUEUE))
    assert (message.message_id, message.type) == ("evt_7", "stripe.customer.subscription.created")
    assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert message.body == body
    assert message.headers["account"] == "user:ada"
    assert str(message.headers["traceparent"]).startswith(f"00-{'a' * 32}-")


async def test_ms_2_an_event_without_a_queue_is_sent_again(relay: Served, channel: AbstractChannel) -> None:
    await channel.queue_delete(QUEUE)
    assert (await relay.send(an_event_body())).status_code == 503


async def test_ms_8_an_accepted_tick_lies_in_its_queue(relay: Served, channel: AbstractChannel) -> None:
    body = {"due_at": "2026-06-01T08:00:00+00:00"}
    assert (await relay.client.post("/v1/ticks/hourly", json=body, headers=CRON)).status_code == 202

    message = await first_of(await channel.get_queue(TICKS))
    assert message.message_id == "tick:hourly:2026-06-01T08:00:00+00:00"


async def first_of(queue: AbstractQueue) -> AbstractIncomingMessage:
    """Consume, since a queue with a single active consumer cannot be looked into."""
    async with asyncio.timeout(5), queue.iterator() as messages:
        return await anext(aiter(messages))
