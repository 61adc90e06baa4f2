"""How far the lanes of a process read ahead of what is decided."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bursar.db.batches import BATCHES_AT_ONCE, MAX_ITEMS

READ_AHEAD = (BATCHES_AT_ONCE + 1) * MAX_ITEMS  # messages: the batches that run, and the one that is next


class ReadAhead:
    """Lets lanes read, one after the other in the order in which they came, while less than `limit` messages are read
    and not yet decided. Whoever may read, reads its whole batch.

    Without it every lane reads before the first batch is decided, and Postgres waits for all of them.
    """

    def __init__(self, limit: int = READ_AHEAD) -> None:
        self._limit = limit
        self._undecided = 0
        self._line = asyncio.Lock()
        self._has_room = asyncio.Event()
        self._count(0)

    @asynccontextmanager
    async def of(self, messages: int) -> AsyncIterator[None]:
        """For the time from before so many messages are read until they are decided."""
        async with self._line:
            await self._has_room.wait()
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
