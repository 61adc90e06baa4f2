"""What one channel delivered and nobody took yet, in the broker's order (MS-4). Bounded by the prefetch."""

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

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def oldest_age_seconds(self) -> float:
        """How long the oldest one has waited here."""
        return time.monotonic() - self._waiting[0][0] if self._waiting else 0.0

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

    def take(self, limit: int) -> list[DeliveredMessage]:
        """The oldest ones, at most `limit`."""
        return [self._waiting.popleft()[1] for _ in range(min(limit, len(self._waiting)))]

    def _append(self, message: DeliveredMessage) -> None:
        self._waiting.append((time.monotonic(), message))
        self._next_tag += 1
