"""Lanes on a real broker and database, with messages whose bodies say what shall become of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from bursar.billing.account import Account
from bursar.billing.decision import Decision
from bursar.billing.errors import UnreadableMessage
from bursar.db.clock import MachineClock
from bursar.db.connections import open_pool
from bursar.db.decide import Limits
from bursar.db.items import Item, Outcome, Situation
from bursar.handlers.messages import ReceivedMessage, copy_of
from bursar.service.broker.batches import Batches
from bursar.service.broker.lanes import Lanes
from bursar.service.broker.membership import Membership
from bursar.service.broker.publisher import open_publisher
from bursar.service.deciding.decider import Decider
from bursar.service.observability.metrics import Metrics
from tests.db.deciding import PARTS

PARTITIONS = 2
DEADLINE_SECONDS = 20.0
UNREADABLE, RAISING = b"unreadable", b"raising"


@dataclass
class Seen:
    """What was decided, in order, whatever became of it; `changed` is set by each."""

    ids: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def decode(self, message: ReceivedMessage, account_key: str) -> Item:
        if message.body == UNREADABLE:
            raise UnreadableMessage("not a message")

        def decide(account: Account, _: Situation) -> Decision:
            if message.body == RAISING:
                raise ZeroDivisionError
            self.ids.append(message.message_id)
            self.changed.set()
            return Decision(account)

        return Item(message.message_id, account_key, PARTS, decide, copy=copy_of(message))


@dataclass
class FakeSweeps:
    """Ticks begun, and pages left to do; or trouble with either."""

    pages_left: int = 0
    trouble: Exception | None = None
    begun: list[str] = field(default_factory=list)
    pages: list[int] = field(default_factory=list)

    async def begin(self, message: ReceivedMessage) -> None:
        self.begun.append(message.message_id)
        if self.trouble:
            raise self.trouble

    async def page(self, partition: int) -> bool:
        self.pages.append(partition)
        self.pages_left -= 1
        if self.trouble:
            raise self.trouble
        return self.pages_left > 0


@dataclass
class Worker:
    """A running worker. `task` may be cancelled, which is how a crash looks to the broker and the database."""

    lanes: Lanes
    membership: Membership
    task: asyncio.Task[None]
    stop: asyncio.Event
    metrics: Metrics

    def value(self, metric: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"bursar_{metric}", labels) or 0.0


@asynccontextmanager
async def a_decider(database_url: str) -> AsyncIterator[Decider]:
    pool = await open_pool(database_url, max_size=8, name="test")
    try:
        yield Decider(pool, MachineClock(), Limits(PARTITIONS, 500))
    finally:
        await pool.close()


@asynccontextmanager
async def a_worker(
    amqp_url: str,
    decider: Decider,
    seen: Seen,
    *,
    name: str = "worker",
    sweeps: FakeSweeps | None = None,
    partitions: int = PARTITIONS,
    membership: Membership | None = None,
) -> AsyncIterator[Worker]:
    metrics, sweeps, stop = Metrics(), sweeps or FakeSweeps(), asyncio.Event()
    membership = membership or Membership(decider, name, partitions)
    batches = Batches(decider, seen.decode, sweeps, metrics)
    lanes = Lanes(amqp_url, partitions, membership=membership, batches=batches, sweeps=sweeps, metrics=metrics)
    task = asyncio.create_task(lanes.run(stop))
    try:
        yield Worker(lanes, membership, task, stop, metrics)
    finally:
        stop.set()
        await asyncio.wait([task], timeout=DEADLINE_SECONDS)


async def published(amqp_url: str, messages: Sequence[ReceivedMessage], partitions: int = PARTITIONS) -> None:
    async with open_publisher(amqp_url, partitions) as publisher:
        for message in messages:
            await publisher.publish(message)


async def until(condition: Callable[[], bool], changed: asyncio.Event | None = None) -> None:
    """Until the condition holds: looked at on each change, and often."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            if changed:
                changed.clear()
            await _first_of(changed)


async def _first_of(changed: asyncio.Event | None) -> None:
    try:
        async with asyncio.timeout(0.02):
            await (changed or asyncio.Event()).wait()
    except TimeoutError:
        return


Trouble = Callable[[], Awaitable[None]]


async def no_trouble() -> None:
    return


class Troubled(Decider):
    """A decider that something happens to, before it decides or after its commit."""

    def __init__(self, inner: Decider, before: Trouble = no_trouble, after: Trouble = no_trouble) -> None:
        super().__init__(inner.pool, inner.clock, inner.limits)
        self._before = before
        self._after = after

    async def decide(self, items: Sequence[Item]) -> list[Outcome]:
        await self._before()
        outcomes = await super().decide(items)
        await self._after()
        return outcomes


@dataclass
class Hold:
    """A beat at which everything waits until let go."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self) -> None:
        self.reached.set()
        await self.released.wait()

    async def wait(self) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self.reached.wait()
