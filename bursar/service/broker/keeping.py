"""Keeps one partition consumed: its owner subscribes at once, the others a little later, and then stand by in line."""

import asyncio
import contextlib
from collections.abc import Callable

import aiormq
import structlog
from aio_pika.abc import AbstractChannel

from bursar.billing.errors import Retryable
from bursar.db.batches import MAX_ITEMS
from bursar.service.broker import topology
from bursar.service.broker.connecting import BROKER_TROUBLE, CLOSE_TIMEOUT_SECONDS, driver_channel
from bursar.service.broker.deliveries import LaneConnection
from bursar.service.broker.lane import Lane
from bursar.service.broker.membership import Membership
from bursar.service.observability.metrics import Metrics

log = structlog.get_logger()

PREFETCH = MAX_ITEMS  # a full batch; more would only be received before the first one is decided (decision 24)
STANDBY_SECONDS = 1.5  # 3.10 delivers to whoever subscribed first
BEATS_UNTIL_SETTLED = 10  # a second each or more: twice the time after which a silent owner is no longer one
BEATS_BETWEEN_LOOKS = 10  # one statement each, where no tick is under way
OWNER_PRIORITY, STANDBY_PRIORITY = 10, 0  # 4.x delivers to the highest

MakeLane = Callable[[int, aiormq.Channel], Lane]


class ChannelLost(Retryable):
    """The broker closed a channel or cancelled its consumer."""


class PartitionKeeper:
    """Subscribes to one partition again and again, on a new channel each time."""

    def __init__(
        self,
        partition: int,
        connection: LaneConnection,
        membership: Membership,
        make_lane: MakeLane,
        metrics: Metrics,
    ) -> None:
        self._partition = partition
        self._connection = connection
        self._membership = membership
        self._make_lane = make_lane
        self._label = topology.routing_key(partition)
        self._metrics = metrics
        self._lane: Lane | None = None
        self._changed = asyncio.Event()
        self._beats_as_owner = self._beats_before_owner = self._received = 0
        metrics.lane_depth.labels(self._label).set_function(self._depth)
        metrics.lane_oldest_age_seconds.labels(self._label).set_function(self._oldest_age_seconds)

    def release(self) -> None:
        """Give the partition up after the running batch, and get in line again behind its owner."""
        self._changed.set()
        if self._lane:
            self._lane.release()

    def own(self) -> None:
        """It is ours now: whoever has it lets go, and a tick that was under way is ours to go on with."""
        self._changed.set()
        if self._lane:
            self._lane.sweep()

    def settle(self) -> None:
        """Called at each heartbeat, for owners that were late: 3.10 leaves them standing behind whoever was in line
        before. That one lets go after some beats in which it was given messages in the place of a living owner. The
        owner looks for ticks now and then: one may have been begun before. Should both go on with it, the cursor has
        each page count once.
        """
        lane = self._lane
        if lane is None:
            return
        if self._membership.owns(self._partition):
            self._beats_as_owner += 1
            if self._beats_as_owner % BEATS_BETWEEN_LOOKS == 0:
                lane.sweep()
        elif lane.inflow.received > self._received:
            self._beats_before_owner += 1
            if self._beats_before_owner == BEATS_UNTIL_SETTLED:
                log.info("partition given back to its owner", partition=self._partition)
                lane.release()
        self._received = lane.inflow.received

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until told to stop and released. Raises ChannelLost."""
        while not stop.is_set():
            await self._wait_in_line(stop)
            if not stop.is_set():
                await self._consume(stop)

    async def _wait_in_line(self, stop: asyncio.Event) -> None:
        while not self._membership.owns(self._partition) and not stop.is_set():
            self._changed.clear()
            try:
                async with asyncio.timeout(STANDBY_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                return

    async def _consume(self, stop: asyncio.Event) -> None:
        channel = await self._connection.channel(publisher_confirms=False)
        try:
            lane = await self._subscribe(channel)
            if stop.is_set():
                lane.release()
            await lane.run()
            is_lost = not lane.has_channel
        finally:
            self._lane = None
            self._metrics.lane_up.labels(self._label).set(0)
            # Closed, not cancelled: only then everything goes back in order before another consumer gets any.
            with contextlib.suppress(*BROKER_TROUBLE):
                await asyncio.wait_for(channel.close(), CLOSE_TIMEOUT_SECONDS)
        if is_lost:
            raise ChannelLost(f"the broker closed the channel of partition {self._label}")

    async def _subscribe(self, channel: AbstractChannel) -> Lane:
        await channel.set_qos(prefetch_count=PREFETCH)
        driver = await driver_channel(channel)
        self._lane = lane = self._make_lane(self._partition, driver)
        self._beats_as_owner = self._beats_before_owner = self._received = 0
        driver.closing.add_done_callback(lambda _: lane.lose_channel())
        driver.on_consumer_cancel_callbacks.add(lambda _: lane.lose_channel())
        owned = self._membership.owns(self._partition)
        priority = OWNER_PRIORITY if owned else STANDBY_PRIORITY
        queue = topology.partition_queue(self._partition)
        self._connection.deliveries.give(driver, lane.inflow.put)
        await driver.basic_consume(queue, lane.inflow.add, arguments={"x-priority": priority})
        self._metrics.lane_up.labels(self._label).set(1)
        if owned:
            lane.sweep()
        if owned and not self._membership.owns(self._partition):
            lane.release()  # it was given to another while we subscribed
        return lane

    def _depth(self) -> float:
        return self._lane.inflow.depth if self._lane else 0

    def _oldest_age_seconds(self) -> float:
        return self._lane.inflow.oldest_age_seconds if self._lane else 0.0
