"""The scheduler: one leader, a tick at each full hour of business time (MS-8)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import asyncpg
import structlog

from bursar.billing.errors import Retryable
from bursar.db import ticks
from bursar.db.clock import Clock
from bursar.db.connections import Connection
from bursar.service.deciding.decider import UNAVAILABLE
from bursar.service.observability.metrics import Metrics
from bursar.service.ticks.expanding import FOUND_AGAIN_AT_ONCE, LOST_AFTER, TickPublisher
from bursar.sweeps.table import HOURLY

log = structlog.get_logger()

LEADERSHIP = 7_208_002  # the advisory lock of the leader
STANDBY_SECONDS = 0.25  # so that a take-over takes less than half a second
LEADING_SECONDS = 1.0
LOOK_AGAIN_AFTER = timedelta(seconds=60)
ANSWER_SECONDS = 5.0  # a leader whose database is silent for so long steps down
# A dead leader's machine may not close its connection: Postgres notices by itself within seconds.
KEEPALIVE = {
    "tcp_keepalives_idle": "2",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
    "statement_timeout": "5s",
    "timezone": "UTC",
    "application_name": "bursar scheduler",
}


class Scheduler:
    """Leads while it holds the advisory lock; everything it writes goes over the connection that holds it."""

    def __init__(self, database_url: str, clock: Clock, publisher: TickPublisher, metrics: Metrics) -> None:
        self._database_url = database_url
        self._clock = clock
        self._publisher = publisher
        self._metrics = metrics
        self.is_leading = False
        self._look_again_at: datetime | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Stand by and lead until told to stop. A lost connection ends a leadership: then it stands by anew."""
        while not stop.is_set():
            try:
                async with self._connection() as connection:
                    await self._stand_by_and_lead(connection, stop)
            except UNAVAILABLE as error:
                log.warning("scheduler lost its database", error=type(error).__name__)
                await _pause(stop, LEADING_SECONDS)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        connection = await asyncpg.connect(
            self._database_url, timeout=ANSWER_SECONDS, command_timeout=ANSWER_SECONDS, server_settings=KEEPALIVE
        )
        try:
            yield connection
        finally:
            self.is_leading = False
            connection.terminate()  # gives the lock back at once

    async def _stand_by_and_lead(self, connection: Connection, stop: asyncio.Event) -> None:
        while not stop.is_set() and not self.is_leading:
            self.is_leading = await connection.fetchval("SELECT pg_try_advisory_lock($1)", LEADERSHIP)
            if not self.is_leading:
                await _pause(stop, STANDBY_SECONDS)
        if self.is_leading:
            log.info("scheduler leads")
        while not stop.is_set():
            try:
                await self.tick(connection)
            except Retryable as error:
                log.warning("tick not published", error=str(error))  # its row is there: found again
            await _pause(stop, LEADING_SECONDS)

    async def tick(self, connection: Connection) -> None:
        """Make the tick of the hour unless it exists: so the latest missed one is caught up. Send what was lost."""
        situation = await self._clock.situation(connection)
        due_at = situation.now.replace(minute=0, second=0, microsecond=0)
        if not await ticks.exists(connection, HOURLY, due_at):
            await ticks.insert_tick(connection, HOURLY, due_at, situation.real_now)
            await self._publish(HOURLY, due_at)
        await self._send_lost(connection, situation.real_now)

    async def _send_lost(self, connection: Connection, real_now: datetime) -> None:
        """Ticks recorded but never sent to the partitions; once a minute, since whoever expands them may be down."""
        if self._look_again_at and real_now < self._look_again_at:
            return
        self._look_again_at = real_now + LOOK_AGAIN_AFTER
        for lost in await ticks.unexpanded(connection, real_now - LOST_AFTER, FOUND_AGAIN_AT_ONCE):
            log.warning("tick found again", sweep=lost.sweep, due_at=lost.due_at.isoformat())
            await self._publish(lost.sweep, lost.due_at)

    async def _publish(self, sweep: str, due_at: datetime) -> None:
        await self._publisher.publish_tick(sweep, due_at)
        self._metrics.ticks.labels(sweep).inc()


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
