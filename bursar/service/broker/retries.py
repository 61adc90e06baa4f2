"""Decides failed messages again, from their rows, when their retry is due (MS-6)."""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from bursar.billing.errors import Retryable, describe
from bursar.billing.values import replace
from bursar.db import parked
from bursar.db.clock import real_now
from bursar.db.items import Dedupe
from bursar.db.parked import ParkedMessage
from bursar.service.broker.batches import Decides, Sweeps
from bursar.service.broker.forms import TICK_TYPE
from bursar.service.broker.reading import Decode, read, received_again
from bursar.service.observability.metrics import Metrics

log = structlog.get_logger()

POLL_SECONDS = 1.0
AT_ONCE = 64
LEASE = timedelta(seconds=60)  # a claim that dies comes due again by then


class Retries:
    """Polls the rows that are due. Any number of processes may; a row is claimed by one. `clock` is real time."""

    def __init__(
        self,
        decider: Decides,
        decode: Decode,
        sweeps: Sweeps,
        metrics: Metrics,
        *,
        clock: Callable[[], datetime] = real_now,
    ) -> None:
        self._decider = decider
        self._decode = decode
        self._sweeps = sweeps
        self._metrics = metrics
        self._clock = clock

    async def run(self, stop: asyncio.Event) -> None:
        """Until told to stop. Raises DatabaseUnavailable: to be started again."""
        while not stop.is_set():
            if await self.retry_due() == AT_ONCE:
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await stop.wait()

    async def retry_due(self) -> int:
        """Decide at most 64 that are due; returns how many there were."""
        now = self._clock()
        due = await self._decider.with_connection(
            lambda connection: parked.claim_due(connection, now, now + LEASE, AT_ONCE)
        )
        self._metrics.retries.inc(len(due))
        for message in due:
            try:
                await self._retry(message)
            except Retryable:
                raise
            except Exception as error:  # noqa: BLE001 - written down; the others go on
                await self._failed_again(message, error)
        return len(due)

    async def _retry(self, message: ParkedMessage) -> None:
        again = received_again(message)
        if message.type == TICK_TYPE:
            await self._sweeps.begin(again)
            await self._decider.with_connection(
                lambda connection: parked.mark_replayed(connection, [message.message_id])
            )
            return
        result = await read([again], self._decode, self._decider)
        for failed in result.failed:
            raise failed.error
        items = [replace(item, dedupe=Dedupe.PARKED, attempts=message.attempts) for item in result.items]
        await self._decider.decide(items)

    async def _failed_again(self, message: ParkedMessage, error: Exception) -> None:
        log.warning("retry failed", message_id=message.message_id, attempts=message.attempts, error=describe(error))
        now = self._clock()
        await self._decider.with_connection(
            lambda connection: parked.record_failed_retry(connection, message.message_id, message.attempts, error, now)
        )
