"""How far the lanes of a process read ahead of what is decided."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from bursar.db.batches import BATCHES_AT_ONCE, MAX_ITEMS


class ReadAhead:
    """Lets lanes read, one after the other in the order in which they came, while fewer messages are read and not yet
    decided than the batches that may run hold, and one batch more. Whoever may read, reads its whole batch.

    Without it every lane reads before the first batch is decided, and Postgres waits for all of them (decision 24).
    """

    def __init__(self, max_batch: int = MAX_ITEMS, at_once: int = BATCHES_AT_ONCE) -> None:
        self._limit = (at_once + 1) * max_batch
        self._undecided = 0
        self._line = asyncio.Lock()
        self._has_room = asyncio.Event()
        self._count(0)

    @asynccontextmanager
    async def turn(self, take: Callable[[], int]) -> AsyncIterator[None]:
        """For the time from `take`, which says how many messages will be read, until they are decided.

        It is called when the turn comes: what came in while the lane stood in line is taken, too.
        """
        async with self._line:
            await self._has_room.wait()
            messages = take()
            self._count(messages)
        try:
            yield
        finally:
            self._count(-messages)

    def _count(self, messages: int) -> None:
        self._undecided += messages
        if self._undecided < self._limit:
            self._has_room.set()
        else:
            self._has_room.clear()
