"""One partition on one channel: takes what has queued up, has it decided, acknowledges once after the commit."""

import asyncio
import random
from collections.abc import Sequence

import aiormq
import aiormq.exceptions
import structlog

from bursar.billing.errors import Retryable, describe
from bursar.db.batches import MAX_ITEMS
from bursar.handlers.messages import ReceivedMessage
from bursar.service.broker.batches import Batches, Sweeps
from bursar.service.broker.inflow import Delivered, Inflow
from bursar.service.broker.read_ahead import ReadAhead

log = structlog.get_logger()

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
JITTER = 0.5  # of the pause, at most


class Lane:
    """Lives as long as its channel. What it did not acknowledge comes again, to whoever is next."""

    def __init__(
        self,
        partition: int,
        channel: aiormq.Channel,
        batches: Batches,
        sweeps: Sweeps,
        slots: asyncio.Semaphore,
        read_ahead: ReadAhead,
        *,
        max_batch: int = MAX_ITEMS,
    ) -> None:
        self.partition = partition
        self.has_channel = True
        self._channel = channel
        self._batches = batches
        self._sweeps = sweeps
        self._slots = slots
        self._read_ahead = read_ahead
        self._max_batch = max_batch
        self._wake = asyncio.Event()
        self.inflow = Inflow(self._wake)
        self._ended = asyncio.Event()
        self._may_sweep = False
        self._sweeps_failed = 0
        self._sweep_at = 0.0
        self._turn: asyncio.Task[bool] | None = None

    def release(self) -> None:
        """Finish the running batch and end; what waits goes back to the broker (MS-12)."""
        self._ended.set()
        self._wake.set()

    def lose_channel(self) -> None:
        """The channel is gone: nothing that it delivered may be acknowledged any more."""
        self.has_channel = False
        self._ended.set()
        self._wake.set()

    def sweep(self) -> None:
        """Look whether a tick is under way on the partition, and go on with it."""
        self._may_sweep = True
        self._wake.set()

    async def run(self) -> None:
        """Work until released or without a channel. Messages and a sweep's pages take turns."""
        try:
            while not self._ended.is_set():
                self._wake.clear()
                if self.inflow:
                    await self._take_batch()
                if self._may_sweep and self._seconds_to_page() <= 0:
                    await self._take_page_in_turn()
                elif not self.inflow:
                    await _set_within(self._wake, self._seconds_to_page() if self._may_sweep else None)
        finally:
            self._leave_turn()

    async def _take_batch(self) -> None:
        failures = 0
        while not self._ended.is_set():
            async with self._read_ahead.turn(lambda: self.inflow.hold(self._max_batch)):
                if self._ended.is_set():
                    return  # released while it stood in line: they go back to the broker
                taken = self.inflow.held
                is_handled = await self._is_handled([delivered.message for delivered in taken])
            if is_handled:
                await self._acknowledge(taken)
                self.inflow.forget_held()
                return
            failures += 1
            await _set_within(self._ended, pause_seconds(failures))

    async def _is_handled(self, messages: Sequence[ReceivedMessage]) -> bool:
        try:
            has_begun = await self._batches.handle(messages)
        except Retryable as error:
            log.warning("batch waits", partition=self.partition, size=len(messages), error=describe(error))
            return False
        self._may_sweep |= has_begun  # not before: it may have been asked to sweep meanwhile
        return True

    async def _acknowledge(self, taken: Sequence[Delivered]) -> None:
        """Everything up to the last, at once. On a channel that is gone: they come again and drop out at the inbox."""
        try:
            await self._channel.basic_ack(taken[-1].tag, multiple=True, wait=False)
        except (aiormq.exceptions.AMQPError, OSError, RuntimeError) as error:
            log.warning("batch not acknowledged", partition=self.partition, error=type(error).__name__)
            self.lose_channel()

    async def _take_page_in_turn(self) -> None:
        """One page once it is this lane's turn. Messages that come meanwhile are taken first, the place in the queue is
        kept, so that nobody waits for the pages of other partitions (MS-5).
        """
        if self._turn is None:
            self._turn = asyncio.create_task(self._slots.acquire())
        waking = asyncio.create_task(self._wake.wait())
        try:
            await asyncio.wait({self._turn, waking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waking.cancel()
        if self._turn.done() and not self._ended.is_set():
            await self._take_page()
            self._leave_turn()

    def _leave_turn(self) -> None:
        turn, self._turn = self._turn, None
        if turn and not turn.cancel():
            self._slots.release()

    async def _take_page(self) -> None:
        self._may_sweep = False  # at first: it may be asked to sweep meanwhile
        try:
            has_more = await self._sweeps.page(self.partition)
        except Exception as error:  # noqa: BLE001 - a sweep that fails must not stop messages; the tick's row stays
            self._may_sweep = True
            self._sweeps_failed += 1
            self._sweep_at = asyncio.get_running_loop().time() + pause_seconds(self._sweeps_failed)
            log.warning("page failed", partition=self.partition, error=describe(error), failures=self._sweeps_failed)
        else:
            self._may_sweep |= has_more
            self._sweeps_failed = 0

    def _seconds_to_page(self) -> float:
        return self._sweep_at - asyncio.get_running_loop().time()


async def _set_within(event: asyncio.Event, seconds: float | None) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def pause_seconds(failures: int) -> float:
    """0.1 s doubling to 5 s, and up to a half more by chance; for as long as it takes."""
    doubled: float = FIRST_PAUSE_SECONDS * 2 ** min(failures - 1, 16)
    return min(doubled, LONGEST_PAUSE_SECONDS) * (1 + JITTER * random.random())  # noqa: S311 - not a secret
