"""All lanes of a process, on one connection, shared with the other workers (MS-4, MS-5, MS-12)."""

import asyncio
import contextlib

import aiormq

from bursar.billing.errors import Retryable
from bursar.db.batches import MAX_ITEMS
from bursar.service.broker import topology
from bursar.service.broker.batches import Batches, Sweeps
from bursar.service.broker.connecting import BROKER_TROUBLE, CLOSE_TIMEOUT_SECONDS, connect_as
from bursar.service.broker.deliveries import LaneConnection
from bursar.service.broker.keeping import PartitionKeeper
from bursar.service.broker.lane import Lane
from bursar.service.broker.membership import Membership
from bursar.service.broker.read_ahead import ReadAhead
from bursar.service.observability.metrics import Metrics
from bursar.service.processes.supervision import TaskState, supervise

PAGES_AT_ONCE = 4  # of a process, of sweeps; each holds a connection to the database
DRAIN_SECONDS = 10.0


class BrokerLost(Retryable):
    """The connection to the broker is gone; what was not acknowledged comes again."""


class Lanes:
    """Consumes every partition: those that are ours, and the others standing by."""

    def __init__(
        self,
        amqp_url: str,
        partitions: int,
        *,
        membership: Membership,
        batches: Batches,
        sweeps: Sweeps,
        metrics: Metrics,
        read_ahead: ReadAhead | None = None,
        max_batch: int = MAX_ITEMS,
    ) -> None:
        self._amqp_url = amqp_url
        self._partitions = partitions
        self._membership = membership
        self._batches = batches
        self._sweeps = sweeps
        self._metrics = metrics
        self._read_ahead = read_ahead or ReadAhead(max_batch)
        self._max_batch = max_batch
        self._slots = asyncio.Semaphore(PAGES_AT_ONCE)
        self.is_connected = False
        self.states = {
            partition: TaskState(f"lane {topology.routing_key(partition)}") for partition in range(partitions)
        }

    @property
    def down(self) -> list[str]:
        """The lanes that should run and do not, for readiness."""
        return [state.name for state in self.states.values() if not self.is_connected or not state.is_up]

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until told to stop, then drain within 10 s. Raises BrokerLost or Retryable: to be started again."""
        try:
            connection = await connect_as(LaneConnection, self._amqp_url, f"bursar lanes {self._membership.worker_id}")
        except BROKER_TROUBLE as error:
            raise BrokerLost(f"the broker does not answer ({type(error).__name__})") from error
        try:
            await self._declare(connection)
            await self._membership.join()
            await self._consume(connection, stop)
        finally:
            self.is_connected = False
            with contextlib.suppress(*BROKER_TROUBLE):
                await asyncio.wait_for(connection.close(), CLOSE_TIMEOUT_SECONDS)
            await self._membership.leave()

    async def _declare(self, connection: LaneConnection) -> None:
        channel = await connection.channel()
        await topology.declare(channel, self._partitions)
        await channel.close()

    async def _consume(self, connection: LaneConnection, stop: asyncio.Event) -> None:
        lost = asyncio.Event()
        connection.close_callbacks.add(lambda *_: lost.set())
        keepers = {partition: self._keeper(partition, connection) for partition in range(self._partitions)}
        self._membership.on_change(lambda lost_to_others, gained: _move(keepers, lost_to_others, gained))
        self._membership.on_beat(lambda: _settle(keepers))
        tasks = [
            asyncio.create_task(self._keep(partition, keeper, stop, lost)) for partition, keeper in keepers.items()
        ]
        tasks.append(asyncio.create_task(supervise("membership", self._membership.run, stop)))
        self.is_connected = True
        try:
            await _first(stop, lost)
            if not lost.is_set():
                _move(keepers, frozenset(keepers), frozenset())
                await asyncio.wait(tasks, timeout=DRAIN_SECONDS)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if not stop.is_set():
            raise BrokerLost("the connection to the broker is gone")

    async def _keep(self, partition: int, keeper: PartitionKeeper, stop: asyncio.Event, lost: asyncio.Event) -> None:
        """Supervised for as long as there is a connection; without one all of them begin anew."""

        async def run(stop: asyncio.Event) -> None:
            try:
                await keeper.run(stop)
            except Retryable:
                await _first(lost, stop, seconds=0.1)
                if not lost.is_set():
                    raise
                await stop.wait()

        await supervise(self.states[partition].name, run, stop, state=self.states[partition])

    def _keeper(self, partition: int, connection: LaneConnection) -> PartitionKeeper:
        return PartitionKeeper(partition, connection, self._membership, self._lane, self._metrics)

    def _lane(self, partition: int, channel: aiormq.Channel) -> Lane:
        return Lane(
            partition, channel, self._batches, self._sweeps, self._slots, self._read_ahead, max_batch=self._max_batch
        )


def _move(keepers: dict[int, PartitionKeeper], lost: frozenset[int], gained: frozenset[int]) -> None:
    for partition in lost:
        keepers[partition].release()
    for partition in gained:
        keepers[partition].own()


def _settle(keepers: dict[int, PartitionKeeper]) -> None:
    for keeper in keepers.values():
        keeper.settle()


async def _first(*events: asyncio.Event, seconds: float | None = None) -> None:
    """Until one of them is set, at most so long."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
