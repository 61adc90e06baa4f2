"""What one channel delivered and nobody acknowledged yet, in the broker's order (MS-4). Bounded by the prefetch."""

import asyncio
import time
from collections import deque

from aiormq.abc import DeliveredMessage


class Inflow:
    """Deliveries of one channel. Their tags are contiguous from 1: by them the order is restored."""

    def __init__(self, wake: asyncio.Event) -> None:
        self._wake = wake
        self._waiting: deque[tuple[float, DeliveredMessage]] = deque()
        self._early: dict[int, DeliveredMessage] = {}
        self._next_tag = 1
        self._held: list[tuple[float, DeliveredMessage]] = []

    def __len__(self) -> int:
        """How many wait to be held."""
        return len(self._waiting)

    @property
    def depth(self) -> int:
        """How many are waiting or held."""
        return len(self._waiting) + len(self._held)

    @property
    def oldest_age_seconds(self) -> float:
        """How long the oldest of those has been here."""
        oldest = self._held or self._waiting
        return time.monotonic() - oldest[0][0] if oldest else 0.0

    @property
    def held(self) -> list[DeliveredMessage]:
        """The batch that is worked on."""
        return [message for _, message in self._held]

    async def add(self, message: DeliveredMessage) -> None:
        """As a consumer of the driver's, which gives each message a task of its own: these may overtake each other."""
        self.put(message)

    def put(self, message: DeliveredMessage) -> None:
        """Keep a delivery until it is taken."""
        tag = message.delivery_tag
        assert tag is not None, "a delivery has a tag"
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

    def _append(self, message: DeliveredMessage) -> None:
        self._waiting.append((time.monotonic(), message))
        self._next_tag += 1
