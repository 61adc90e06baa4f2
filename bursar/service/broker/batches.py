"""What a lane does with the messages it took: decided together, ticks begun, unreadable ones written down."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

import structlog

from bursar.billing.errors import Retryable, describe
from bursar.db import parked
from bursar.db.clock import real_now
from bursar.db.connections import Connection
from bursar.db.items import Item, Outcome
from bursar.db.parked import FailedMessage
from bursar.handlers.messages import ReceivedMessage
from bursar.service.broker.forms import TICK_TYPE
from bursar.service.broker.reading import Database, Decode, failed, failed_item, read
from bursar.service.observability.metrics import Metrics

log = structlog.get_logger()


class Decides(Database, Protocol):
    """Takes items to their outcomes, each exactly once; DatabaseUnavailable when nothing can be saved."""

    async def decide(self, items: Sequence[Item]) -> list[Outcome]:
        """Decide the items, in order."""
        ...


class Sweeps(Protocol):
    """A tick's work on a partition. All of its state is in the database."""

    async def begin(self, message: ReceivedMessage) -> None:
        """Note a tick durably, once."""
        ...

    async def page(self, partition: int) -> bool:
        """Do one page of what is under way; False when there was nothing to do."""
        ...


class Batches:
    """Handles batches for all lanes of a process. Whatever returns is saved, so that it can be acknowledged.

    `clock` is real time.
    """

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

    async def handle(self, messages: Sequence[ReceivedMessage]) -> bool:
        """Handle up to 256 messages; whether a tick began among them.

        Raises Retryable when the database does not answer: the same messages again then, what was saved drops out.
        """
        ticks = [message for message in messages if message.type == TICK_TYPE]
        others = [message for message in messages if message.type != TICK_TYPE] if ticks else messages
        result = await read(others, self._decode, self._decider)
        if result.failed:
            await self._write_down(result.failed)
        if result.items:
            await self._decide(result.items)
        for tick in ticks:
            await self._begin(tick)
        self._metrics.lane_batch_size.observe(len(messages))
        return bool(ticks)

    async def _decide(self, items: Sequence[Item]) -> None:
        """All at once; where that raises what nobody foresaw, one by one: it concerns one message only (MS-5)."""
        try:
            with self._metrics.decide_seconds.time():
                outcomes = await self._decider.decide(items)
        except Retryable:
            raise
        except Exception as error:
            log.exception("batch not decided", size=len(items), error=describe(error))
            if len(items) == 1:
                await self._write_down([failed_item(items[0], error)])
                return
            for item in items:
                await self._decide([item])
            return
        for state, number in Counter(outcome.state for outcome in outcomes).items():
            self._metrics.lane_messages.labels(state).inc(number)

    async def _begin(self, tick: ReceivedMessage) -> None:
        try:
            await self._sweeps.begin(tick)
        except Retryable:
            raise
        except Exception as error:  # noqa: BLE001 - written down with its error
            await self._write_down([failed(tick, error)])
        else:
            self._metrics.lane_messages.labels("tick").inc()

    async def _write_down(self, messages: Sequence[FailedMessage]) -> None:
        """For a retry, or parked at once where that is hopeless (MS-6); before the acknowledgement."""
        for one in messages:
            log.warning(
                "message written down", message_id=one.message_id, account=one.account_key, error=describe(one.error)
            )

        async def record(connection: Connection) -> None:
            async with connection.transaction():
                await parked.record_unhandled(connection, messages, self._clock())

        await self._decider.with_connection(record)
        self._metrics.lane_messages.labels("unreadable").inc(len(messages))
