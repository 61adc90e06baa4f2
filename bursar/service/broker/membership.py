"""The living workers, by heartbeats in the database. They say who should consume, never who may decide."""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from bursar.billing.errors import Retryable
from bursar.db.clock import real_now
from bursar.db.connections import Connection
from bursar.service.broker.reading import Database
from bursar.service.broker.sharing import share

log = structlog.get_logger()

HEARTBEAT_SECONDS = 1.0
DEAD_AFTER = timedelta(seconds=5)
FORGET_AFTER = timedelta(minutes=1)
LEAVE_TIMEOUT_SECONDS = 2.0

Owner = tuple[str, datetime]  # a worker, and since when it is connected to the broker
OnChange = Callable[[frozenset[int], frozenset[int]], None]  # (partitions for others to consume, partitions for us)


class Membership:
    """This worker among the others. `clock` is real time."""

    def __init__(
        self, database: Database, worker_id: str, partitions: int, *, clock: Callable[[], datetime] = real_now
    ) -> None:
        self.worker_id = worker_id
        self._database = database
        self._partitions = partitions
        self._clock = clock
        self._joined_at: datetime | None = None
        self._owners: dict[int, Owner] = {}
        self._on_change: OnChange | None = None
        self._on_beat: Callable[[], None] | None = None

    def owns(self, partition: int) -> bool:
        """Whether this worker should consume it; the others stand by."""
        return partition in self._owners and self._owners[partition][0] == self.worker_id

    def on_change(self, listener: OnChange) -> None:
        """Have `listener` called when partitions have another owner, or one that has connected anew."""
        self._on_change = listener

    def on_beat(self, listener: Callable[[], None]) -> None:
        """Have `listener` called after each heartbeat."""
        self._on_beat = listener

    async def join(self) -> None:
        """Appear among the living, connected to the broker as of now."""
        self._joined_at = self._clock()
        self._owners = await self._database.with_connection(self._look_around)

    async def run(self, stop: asyncio.Event) -> None:
        """A heartbeat and a look at the others each second. Raises DatabaseUnavailable; what was known stays known."""
        while not stop.is_set():
            await self.beat()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await stop.wait()

    async def beat(self) -> None:
        """One heartbeat, and what follows from the others'."""
        before, self._owners = self._owners, await self._database.with_connection(self._look_around)
        changed = {partition for partition, owner in self._owners.items() if before.get(partition) != owner}
        if changed:
            gained = frozenset(partition for partition in changed if self.owns(partition))
            log.info("partitions shared anew", worker=self.worker_id, changed=len(changed), gained=len(gained))
            if self._on_change:
                self._on_change(frozenset(changed - gained), gained)
        if self._on_beat:
            self._on_beat()

    async def leave(self) -> None:
        """Disappear, so that the others need not wait; without the database they notice by themselves."""
        with contextlib.suppress(Retryable, TimeoutError):
            async with asyncio.timeout(LEAVE_TIMEOUT_SECONDS):
                await self._database.with_connection(self._disappear)

    async def _look_around(self, connection: Connection) -> dict[int, Owner]:
        now = self._clock()
        await _heartbeat(connection, self.worker_id, self._joined_at or now, now)
        living = await _living(connection, now - DEAD_AFTER)
        await _forget(connection, now - FORGET_AFTER)
        return {partition: (worker, living[worker]) for partition, worker in share(living, self._partitions).items()}

    async def _disappear(self, connection: Connection) -> None:
        await connection.execute("DELETE FROM workers WHERE worker_id = $1", self.worker_id)


async def _heartbeat(connection: Connection, worker_id: str, joined_at: datetime, now: datetime) -> None:
    await connection.execute(
        """
        INSERT INTO workers (worker_id, started_at, heartbeat_at) VALUES ($1, $2, $3)
        ON CONFLICT (worker_id) DO UPDATE SET started_at = excluded.started_at, heartbeat_at = excluded.heartbeat_at
        """,
        worker_id,
        joined_at,
        now,
    )


async def _living(connection: Connection, since: datetime) -> dict[str, datetime]:
    """Workers heard of since then → when they joined."""
    rows = await connection.fetch("SELECT worker_id, started_at FROM workers WHERE heartbeat_at >= $1", since)
    return {row["worker_id"]: row["started_at"] for row in rows}


async def _forget(connection: Connection, before: datetime) -> None:
    await connection.execute("DELETE FROM workers WHERE heartbeat_at < $1", before)
