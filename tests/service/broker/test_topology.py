import aio_pika
import aiormq
import asyncpg
import pytest

from bursar.service.broker import topology
from bursar.service.broker.connecting import connect
from tests.service.broker.queues import taken


async def test_declaring_again_does_nothing(amqp_url: str) -> None:
    connection = await connect(amqp_url, "test")
    async with connection:
        channel = await connection.channel()
        await topology.declare(channel, 3)
        await topology.declare(channel, 3)
        queue = await channel.get_queue("bursar.accounts.p02", ensure=True)
        assert queue.declaration_result.message_count == 0


async def test_ms_2_what_a_partition_rejects_reaches_the_dead_letters(amqp_url: str) -> None:
    connection = await connect(amqp_url, "test")
    async with connection:
        channel = await connection.channel()
        await topology.declare(channel, 1)
        accounts = await channel.get_exchange(topology.ACCOUNTS)
        await accounts.publish(aio_pika.Message(b"{}", message_id="m1", delivery_mode=2), topology.routing_key(0))
        message = await taken(channel, topology.partition_queue(0))
        await message.reject(requeue=False)
        letter = await taken(channel, topology.DEAD)
        assert letter.message_id == "m1"


async def test_another_form_of_a_queue_is_refused(amqp_url: str) -> None:
    connection = await connect(amqp_url, "test")
    async with connection:
        channel = await connection.channel()
        await channel.declare_queue(topology.partition_queue(0), durable=True)
        with pytest.raises(aiormq.exceptions.ChannelPreconditionFailed):
            await topology.declare(channel, 1)


async def test_another_number_of_partitions_refuses_to_start(connection: asyncpg.Connection) -> None:
    await topology.check_partitions(connection, 32)
    await topology.check_partitions(connection, 32)
    with pytest.raises(topology.PartitionsChanged, match=r"BURSAR_PARTITIONS is 16.* set it back to 32"):
        await topology.check_partitions(connection, 16)
