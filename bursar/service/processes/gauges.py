"""Keeps the gauges of failed messages and of renewals up to date."""

import asyncio
from contextlib import suppress

from bursar.billing.errors import Retryable
from bursar.db import credit_audit, renewal_failures
from bursar.db.connections import Connection
from bursar.db.parked_pages import count_open
from bursar.service.deciding.decider import Decider
from bursar.service.observability.metrics import Metrics
from bursar.service.processes.supervision import wait_or_stop

MEASURE_SECONDS = 10.0


class WaitingGauges:
    """Counts the messages that wait for a retry or an operator, and the renewals (CR-64)."""

    def __init__(self, decider: Decider, metrics: Metrics) -> None:
        self._decider = decider
        self._metrics = metrics

    async def run(self, stop: asyncio.Event) -> None:
        """Measure every ten seconds; while the database is away the figures stand still."""
        while not stop.is_set():
            with suppress(Retryable):
                await self.measure()
            await wait_or_stop(stop, MEASURE_SECONDS)

    async def measure(self) -> None:
        """Set the gauges; DatabaseUnavailable leaves them as they are."""
        for state, number in (await self._decider.with_connection(count_open)).items():
            self._metrics.parked.labels(state).set(number)
        await self._decider.with_connection(self._measure_renewals)
        self._metrics.credit_mismatches.set(await self._decider.with_connection(credit_audit.count_open))

    async def _measure_renewals(self, connection: Connection) -> None:
        situation = await self._decider.clock.situation(connection)
        backlog = await renewal_failures.backlog(connection, situation.now, self._decider.limits.partitions)
        late = situation.now - (backlog.oldest_boundary or situation.now)
        failing = situation.real_now - (backlog.oldest_failed_at or situation.real_now)
        self._metrics.renewals_due.set(backlog.due)
        self._metrics.renewals_oldest_age_seconds.set(late.total_seconds())
        self._metrics.renewal_failures_oldest_age_seconds.set(failing.total_seconds())
        self._metrics.renewal_failed_attempts.set(backlog.failed_attempts)
        for state, number in backlog.failures.items():
            self._metrics.renewal_failures.labels(state).set(number)
