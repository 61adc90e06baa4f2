import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiormq
from aiormq.abc import DeliveredMessage
from pamqp import commands as spec
from pamqp.header import ContentHeader

from bursar.service.broker import topology
from bursar.service.broker.batches import Batches
from bursar.service.broker.connecting import connect, driver_channel
from bursar.service.broker.inflow import Inflow
from bursar.service.broker.lane import Lane
from bursar.service.broker.read_ahead import ReadAhead
from bursar.service.deciding.decider import Decider
from bursar.service.observability.metrics import Metrics
from tests.service.broker.queues import stripe_message
from tests.service.broker.working import DEADLINE_SECONDS, FakeSweeps, Hold, Seen, Troubled, a_decider, published, until


class NotedReadAhead(ReadAhead):
    """Notes that a lane asked whether it may read."""

    def __init__(self) -> None:
        super().__init__(max_batch=1, at_once=0)
        self.asked = asyncio.Event()

    @asynccontextmanager
    async def turn(self, take: Callable[[], int]) -> AsyncIterator[None]:
        self.asked.set()
        async with super().turn(take):
            yield


async def subscribed(driver: aiormq.Channel, decider: Decider, seen: Seen) -> Lane:
    sweeps = FakeSweeps()
    batches = Batches(decider, seen.decode, sweeps, Metrics())
    lane = Lane(0, driver, batches, sweeps, asyncio.Semaphore(1), ReadAhead())
    driver.closing.add_done_callback(lambda _: lane.lose_channel())
    await driver.basic_consume(topology.partition_queue(0), lane.inflow.add)
    return lane


async def test_a_channel_closed_in_the_middle_ends_the_lane_and_another_repeats_no_effect(
    amqp_url: str, database_url: str
) -> None:
    await published(amqp_url, [stripe_message(number) for number in range(10)], 1)
    seen, hold = Seen(), Hold()
    connection = await connect(amqp_url, "test")
    async with connection, a_decider(database_url) as decider:
        driver = await driver_channel(await connection.channel(publisher_confirms=False))
        lane = await subscribed(driver, Troubled(decider, hold), seen)
        running = asyncio.create_task(lane.run())
        await hold.wait()
        # The broker closes a channel on which a tag is acknowledged that it never gave.
        await driver.basic_ack(999, wait=False)
        await until(lambda: not lane.has_channel)
        hold.released.set()
        await asyncio.wait_for(running, DEADLINE_SECONDS)

        second = await driver_channel(await connection.channel(publisher_confirms=False))
        lane = await subscribed(second, decider, seen)
        running = asyncio.create_task(lane.run())
        await until(lambda: len(seen.ids) == 10, seen.changed)
        lane.release()
        await asyncio.wait_for(running, DEADLINE_SECONDS)
        assert not second.is_closed
    assert sorted(seen.ids) == sorted(f"evt_{number}" for number in range(10))


def delivered(tag: int) -> DeliveredMessage:
    delivery = spec.Basic.Deliver(consumer_tag="c", delivery_tag=tag, exchange="e", routing_key="k")
    channel: Any = None
    return DeliveredMessage(
        delivery, ContentHeader(properties=spec.Basic.Properties(message_id=f"evt_{tag}")), b"", channel
    )


def held(inflow: Inflow) -> list[tuple[int, str]]:
    return [(one.tag, one.message.message_id) for one in inflow.held]


async def test_ms_4_the_inflow_restores_the_order_of_the_delivery_tags() -> None:
    wake = asyncio.Event()
    inflow = Inflow(wake)
    for tag in (2, 4, 3):
        await inflow.add(delivered(tag))
    assert (len(inflow), wake.is_set()) == (0, False)
    await inflow.add(delivered(1))
    assert wake.is_set()
    assert (inflow.hold(3), len(inflow), inflow.depth) == (3, 1, 4)
    assert held(inflow) == [(1, "evt_1"), (2, "evt_2"), (3, "evt_3")]
    assert inflow.hold(3) == 3  # the same ones until they are acknowledged
    inflow.forget_held()
    assert (inflow.hold(3), held(inflow)) == (1, [(4, "evt_4")])
    assert inflow.oldest_age_seconds > 0  # a held batch is not decided: who looks must see it age
    inflow.forget_held()
    assert (inflow.depth, inflow.oldest_age_seconds) == (0, 0)


async def test_ms_5_a_message_does_not_wait_for_the_pages_of_other_partitions(amqp_url: str, database_url: str) -> None:
    await published(amqp_url, [stripe_message(1)], 1)
    seen, slots = Seen(), asyncio.Semaphore(1)
    connection = await connect(amqp_url, "test")
    async with connection, a_decider(database_url) as decider:
        driver = await driver_channel(await connection.channel(publisher_confirms=False))
        sweeps = FakeSweeps()
        lane = Lane(0, driver, Batches(decider, seen.decode, sweeps, Metrics()), sweeps, slots, ReadAhead())
        await slots.acquire()  # another lane's page, which lasts
        lane.sweep()
        running = asyncio.create_task(lane.run())
        await driver.basic_consume(topology.partition_queue(0), lane.inflow.add)
        await until(lambda: len(seen.ids) == 1, seen.changed)
        lane.release()
        await asyncio.wait_for(running, DEADLINE_SECONDS)
        slots.release()
        await asyncio.wait_for(slots.acquire(), DEADLINE_SECONDS)  # it left the queue


async def test_ms_12_a_lane_released_while_it_waits_to_read_leaves_its_messages_to_the_broker(
    amqp_url: str, database_url: str
) -> None:
    await published(amqp_url, [stripe_message(1)], 1)
    seen, read_ahead = Seen(), NotedReadAhead()
    connection = await connect(amqp_url, "test")
    async with connection, a_decider(database_url) as decider:
        driver = await driver_channel(await connection.channel(publisher_confirms=False))
        batches = Batches(decider, seen.decode, FakeSweeps(), Metrics())
        lane = Lane(0, driver, batches, FakeSweeps(), asyncio.Semaphore(1), read_ahead)
        running = asyncio.create_task(lane.run())
        async with ReadAhead.turn(read_ahead, lambda: 1):  # another lane's
            await driver.basic_consume(topology.partition_queue(0), lane.inflow.add)
            await until(read_ahead.asked.is_set, read_ahead.asked)
            lane.release()
        await asyncio.wait_for(running, DEADLINE_SECONDS)
        assert seen.ids == []
        await driver.close()

        second = await driver_channel(await connection.channel(publisher_confirms=False))
        lane = await subscribed(second, decider, seen)
        running = asyncio.create_task(lane.run())
        await until(lambda: len(seen.ids) == 1, seen.changed)
        lane.release()
        await asyncio.wait_for(running, DEADLINE_SECONDS)
    assert seen.ids == ["evt_1"]


class SlowSweeps(FakeSweeps):
    """A page takes until it is let go; there is nothing more to do then."""

    def __init__(self) -> None:
        super().__init__()
        self.hold = Hold()

    async def page(self, partition: int) -> bool:
        self.pages.append(partition)
        await self.hold()
        return False


async def test_ms_8_a_sweep_asked_for_while_a_batch_is_decided_is_not_forgotten(
    amqp_url: str, database_url: str
) -> None:
    await published(amqp_url, [stripe_message(1)], 1)
    seen, hold, sweeps = Seen(), Hold(), FakeSweeps()
    connection = await connect(amqp_url, "test")
    async with connection, a_decider(database_url) as decider:
        driver = await driver_channel(await connection.channel(publisher_confirms=False))
        batches = Batches(Troubled(decider, hold), seen.decode, sweeps, Metrics())
        lane = Lane(0, driver, batches, sweeps, asyncio.Semaphore(1), ReadAhead())
        await driver.basic_consume(topology.partition_queue(0), lane.inflow.add)
        running = asyncio.create_task(lane.run())
        await hold.wait()
        lane.sweep()
        hold.released.set()
        await until(lambda: bool(sweeps.pages))
        lane.release()
        await asyncio.wait_for(running, DEADLINE_SECONDS)


async def test_ms_8_a_sweep_asked_for_during_a_page_is_not_forgotten(amqp_url: str, database_url: str) -> None:
    sweeps = SlowSweeps()
    connection = await connect(amqp_url, "test")
    async with connection, a_decider(database_url) as decider:
        driver = await driver_channel(await connection.channel(publisher_confirms=False))
        batches = Batches(decider, Seen().decode, sweeps, Metrics())
        lane = Lane(0, driver, batches, sweeps, asyncio.Semaphore(1), ReadAhead())
        lane.sweep()
        running = asyncio.create_task(lane.run())
        await sweeps.hold.wait()
        lane.sweep()
        sweeps.hold.released.set()
        await until(lambda: len(sweeps.pages) == 2)
        lane.release()
        await asyncio.wait_for(running, DEADLINE_SECONDS)
