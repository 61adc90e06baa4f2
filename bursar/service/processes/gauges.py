"""Keeps the gauge of failed messages up to date."""

import asyncio
from contextlib import suppress

from bursar.billing.errors import Retryable
from bursar.db.parked_pages import count_open
from bursar.service.deciding.decider import Decider
from bursar.service.observability.metrics import Metrics
from bursar.service.processes.supervision import wait_or_stop

MEASURE_SECONDS = 10.0


class ParkedGauge:
    """Counts the messages that wait for a retry or an operator."""

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
        """Set the gauge; DatabaseUnavailable leaves it as it is."""
        for state, number in (await self._decider.with_connection(count_open)).items():
            self._metrics.parked.labels(state).set(number)
