"""A broker in memory: it keeps what it confirmed until it is acknowledged, and delivers at least once."""

import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

import orjson
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp import commands as spec
from pamqp.header import ContentHeader

from bursar.billing.account import partition_of
from bursar.billing.errors import Retryable
from bursar.handlers.messages import ReceivedMessage
from bursar.service.broker.forms import TICK_TYPE
from bursar.service.simulation.dying import Mortality, Point


@dataclass(slots=True)
class Queues:
    """What the broker holds: it outlives every process. `lose_confirms`: so many are taken and never confirmed."""

    partitions: int
    lanes: list[deque[ReceivedMessage]] = field(init=False)
    ticks: deque[tuple[str, datetime]] = field(default_factory=deque)
    lose_confirms: int = 0
    accepted: Counter[str] = field(default_factory=Counter)  # by message id, what was confirmed or may have been

    def __post_init__(self) -> None:
        self.lanes = [deque() for _ in range(self.partitions)]

    @property
    def waiting(self) -> list[int]:
        """The partitions in which something waits."""
        return [number for number, lane in enumerate(self.lanes) if lane]

    def put(self, partition: int, message: ReceivedMessage) -> None:
        """Take it: from here on it must not be lost."""
        self.lanes[partition].append(message)
        self.accepted[message.message_id] += 1

    def give_back(self, partition: int, messages: Iterable[ReceivedMessage]) -> None:
        """What was delivered and not acknowledged comes again, first."""
        self.lanes[partition].extendleft(reversed(list(messages)))

    def shuffle(self, rng: random.Random) -> None:
        """Redeliveries and requeues may change the order."""
        for number, lane in enumerate(self.lanes):
            messages = list(lane)
            rng.shuffle(messages)
            self.lanes[number] = deque(messages)

    def take(self, partition: int, limit: int) -> Sequence[ReceivedMessage]:
        """Deliver up to so many."""
        lane = self.lanes[partition]
        return [lane.popleft() for _ in range(min(limit, len(lane)))]


class SimulatedPublisher:
    """A process's way to the broker: confirmed, or unknown."""

    def __init__(self, queues: Queues, mortality: Mortality) -> None:
        self._queues = queues
        self._mortality = mortality

    async def publish(self, message: ReceivedMessage) -> None:
        """To the partition of its account; returns once confirmed, else raises `Retryable`."""
        self._mortality.pass_point(Point.BEFORE_PUBLISH)
        self._queues.put(partition_of(message.account, self._queues.partitions), message)
        self._confirm()

    async def publish_tick(self, sweep: str, due_at: datetime, traceparent: str | None = None) -> None:  # noqa: ARG002
        """To the queue of ticks."""
        self._mortality.pass_point(Point.BEFORE_PUBLISH)
        self._queues.ticks.append((sweep, due_at))
        self._confirm()

    async def publish_partition_tick(self, tick_id: int, sweep: str, due_at: datetime, partition: int) -> None:  # noqa: ARG002
        """To a partition's queue."""
        self._mortality.pass_point(Point.BEFORE_PUBLISH)
        body = {"sweep": sweep, "due_at": due_at.isoformat(), "partition": partition}
        message_id = f"tick:{sweep}:{due_at.isoformat()}:{partition}"
        self._queues.put(
            partition, ReceivedMessage(message_id, TICK_TYPE, f"partition:{partition}", orjson.dumps(body))
        )
        self._confirm()

    def _confirm(self) -> None:
        self._mortality.pass_point(Point.AFTER_PUBLISH)
        if self._queues.lose_confirms:
            self._queues.lose_confirms -= 1
            raise Retryable("simulated: the confirm was lost")


class SimulatedChannel:
    """One lane's channel. What it delivered and nobody acknowledged goes back when it closes."""

    def __init__(self, queues: Queues, partition: int, mortality: Mortality) -> None:
        self._queues = queues
        self._partition = partition
        self._mortality = mortality
        self.on_acknowledged: Callable[[], None] = lambda: None
        self._unacknowledged: dict[int, ReceivedMessage] = {}

    def deliver(self, limit: int) -> list[DeliveredMessage]:
        """At most so many of what waits in the partition."""
        messages = self._queues.take(self._partition, limit)
        self._unacknowledged |= dict(enumerate(messages, 1))
        return [self._delivered(tag, message) for tag, message in self._unacknowledged.items()]

    async def basic_ack(self, tag: int, *, multiple: bool, wait: bool) -> None:  # noqa: ARG002 - aiormq's
        """Everything up to that tag is done with."""
        self._mortality.pass_point(Point.BEFORE_ACK)
        for acknowledged in [one for one in self._unacknowledged if one <= tag]:
            del self._unacknowledged[acknowledged]
        self.on_acknowledged()
        self._mortality.pass_point(Point.AFTER_ACK)

    def close(self) -> None:
        """As the broker sees it, whoever closed it."""
        self._queues.give_back(self._partition, self._unacknowledged.values())
        self._unacknowledged = {}

    def _delivered(self, tag: int, message: ReceivedMessage) -> DeliveredMessage:
        headers: dict[str, Any] = {
            "account": message.account,
            "occurred_at": message.occurred_at and message.occurred_at.isoformat(),
        }
        properties = spec.Basic.Properties(message_id=message.message_id, message_type=message.type, headers=headers)
        header = ContentHeader(properties=properties)
        delivery = spec.Basic.Deliver(consumer_tag="simulated", delivery_tag=tag, exchange="", routing_key="")
        return DeliveredMessage(delivery, header, message.body, cast("AbstractChannel", self))
