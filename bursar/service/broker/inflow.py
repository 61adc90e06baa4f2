"""What one channel delivered and nobody acknowledged yet, in the broker's order (MS-4). Bounded by the prefetch."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence

from aiormq.abc import DeliveredMessage

from bursar.billing.values import Value
from bursar.handlers.messages import ReceivedMessage
from bursar.service.broker.properties import of_driver
from bursar.service.broker.reading import received


class Delivered(Value):
    """A message, what it is acknowledged by, and when it came by the monotonic clock."""

    tag: int
    message: ReceivedMessage
    at: float


class Inflow:
    """Deliveries of one channel. Their tags are contiguous from 1: by them the order is restored."""

    def __init__(self, wake: asyncio.Event) -> None:
        self._wake = wake
        self._waiting: deque[Delivered] = deque()
        self._early: dict[int, ReceivedMessage] = {}
        self._next_tag = 1
        self._held: list[Delivered] = []

    def __len__(self) -> int:
        """How many wait to be held."""
        return len(self._waiting)

    @property
    def depth(self) -> int:
        """How many are waiting or held."""
        return len(self._waiting) + len(self._held)

    @property
    def received(self) -> int:
        """How many the broker delivered on the channel: of all that stand in line only the first gets any."""
        return self._next_tag - 1

    @property
    def oldest_age_seconds(self) -> float:
        """How long the oldest of those has been here."""
        oldest = self._held or self._waiting
        return time.monotonic() - oldest[0].at if oldest else 0.0

    @property
    def held(self) -> Sequence[Delivered]:
        """The batch that is worked on."""
        return self._held

    async def add(self, delivered: DeliveredMessage) -> None:
        """As a consumer of the driver's, which gives each message a task of its own: these may overtake each other."""
        tag = delivered.delivery_tag
        assert tag is not None, "a delivery has a tag"
        self.put(tag, received(of_driver(delivered.header), delivered.body))

    def put(self, tag: int, message: ReceivedMessage) -> None:
        """Keep a delivery until it is taken."""
        if tag != self._next_tag:
            self._early[tag] = message
            return
        self._append(message)
        while self._early and (following := self._early.pop(self._next_tag, None)):
            self._append(following)
        self._wake.set()

    def hold(self, limit: int) -> int:
        """Hold the oldest ones, at most `limit`, unless a batch is held already; how many are held then."""
        if not self._held:
            self._held = [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]
        return len(self._held)

    def forget_held(self) -> None:
        """The batch was acknowledged."""
        self._held = []

    def _append(self, message: ReceivedMessage) -> None:
        self._waiting.append(Delivered(self._next_tag, message, time.monotonic()))
        self._next_tag += 1
