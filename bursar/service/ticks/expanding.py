"""From a tick to its partitions: recorded, one message each, found again when something dies in between (MS-8)."""

from datetime import datetime, timedelta
from typing import Protocol

from bursar.billing.errors import UnreadableMessage
from bursar.db import ticks
from bursar.db.connections import Connection
from bursar.db.ticks import Tick
from bursar.service.deciding.decider import Decider
from bursar.sweeps.table import PLANS

LOST_AFTER = timedelta(seconds=15)  # a tick whose partitions have no message by then is published again
FOUND_AGAIN_AT_ONCE = 32


class TickPublisher(Protocol):
    """Publishes with confirm; raises `Retryable` when the broker does not confirm."""

    async def publish_tick(self, sweep: str, due_at: datetime, traceparent: str | None = None) -> None:
        """To `bursar.ticks`; message id `tick:{sweep}:{due_at}`."""
        ...

    async def publish_partition_tick(self, tick_id: int, sweep: str, due_at: datetime, partition: int) -> None:
        """To the partition's queue; message id `tick:{sweep}:{due_at}:{partition}`."""
        ...


class TickExpander:
    """What the consumer of `bursar.ticks` calls."""

    def __init__(self, decider: Decider, publisher: TickPublisher) -> None:
        self._decider = decider
        self._publisher = publisher

    async def expand(self, sweep: str, due_at: datetime) -> Tick:
        """Record the tick and send it to every partition; again does no harm. UnreadableMessage: unknown sweep."""
        if sweep not in PLANS:
            raise UnreadableMessage(f"there is no sweep {sweep[:80]!r}")
        partitions = self._decider.limits.partitions
        tick = await self._decider.with_connection(lambda connection: self._record(connection, sweep, due_at))
        for partition in range(partitions):
            await self._publisher.publish_partition_tick(tick.id, sweep, due_at, partition)

        async def mark(connection: Connection) -> None:
            real_now = (await self._decider.clock.situation(connection)).real_now
            await ticks.mark_expanded(connection, tick.id, partitions, real_now)

        await self._decider.with_connection(mark)
        return tick

    async def _record(self, connection: Connection, sweep: str, due_at: datetime) -> Tick:
        real_now = (await self._decider.clock.situation(connection)).real_now
        return await ticks.insert_tick(connection, sweep, due_at, real_now)
