"""A tiny operation, a Stripe that knows its idempotency keys, and crashes between any two beats."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from bursar.billing.account import Account, Profile
from bursar.billing.decision import Decision
from bursar.billing.errors import CallRefused, KeySpent
from bursar.billing.operations import Ended, Operation, OperationFacts, Operations, Plan, begin, keeping
from bursar.billing.steps import StepKind
from bursar.billing.stripe.calls import Call, Method
from bursar.billing.values import replace
from bursar.db.connections import Connection
from bursar.db.items import Item, NewLease, Outcome, Situation
from bursar.handlers.operations import operation_stopped
from bursar.handlers.steps import PARTS
from bursar.service.steps.bounds import LEASE
from bursar.service.steps.operations import OperationCarrier
from bursar.service.steps.step_crew import StepCrew
from bursar.service.steps.together import Together
from tests.billing.kiloclaw.making import CATALOGUE
from tests.db.deciding import StandingClock, a_decider
from tests.service.steps.acting import Acting, Meanwhile, nothing


class Asked(BaseModel):
    """What the tiny operation is asked for."""

    title: str = "sold"


def sell(_: Asked) -> Plan:
    """Two things that are taken back if the third is refused."""
    found = yield Call("look", Method.LIST_INVOICES, params={"customer": "cus_1"})
    if not found.data:
        yield Call("invoice", Method.CREATE_INVOICE, undo=Call("", Method.VOID_INVOICE))
    yield Call("item", Method.CREATE_INVOICE_ITEM, undo=Call("", Method.DELETE_INVOICE))
    paid = yield Call("pay", Method.PAY_INVOICE, target="in_1")
    return {"paid": paid.id}


def sold(account: Account, asked: Asked, ended: Ended, facts: OperationFacts) -> Decision:
    """Writes the end into the user's name, which is easy to look at."""
    assert facts.cause.startswith("step:")
    told = ended.failure.code if ended.failure else asked.title
    return Decision(account.having(replace(account.part(Profile), name=told)), reason="sold", counts={"sold": 1})


OPERATIONS: Mapping[str, Operation[Any]] = {"sell": Operation("sell", Asked, sell, sold)}


class Crash(BaseException):
    """The process dies."""


@dataclass
class FakeStripe:
    """Answers a key it has seen as it did then. `crash_before` and `crash_after` name a call, and are used once."""

    refusals: dict[str, str] = field(default_factory=dict)
    failures: dict[str, list[Exception]] = field(default_factory=dict)
    crash_before: str | None = None
    crash_after: str | None = None
    meanwhile: Meanwhile = nothing
    made: list[str] = field(default_factory=list)
    effects: list[str] = field(default_factory=list)
    by_key: dict[str, tuple[str, str]] = field(default_factory=dict)
    invoices: list[dict[str, Any]] = field(default_factory=list)

    async def call(self, call: Call, idempotency_key: str) -> Mapping[str, Any]:
        self.made.append(call.name)
        if self.crash_before == call.name:
            self.crash_before = None
            raise Crash
        await self.meanwhile()
        if not call.changes_stripe:
            return {"data": self.invoices}
        if self.failures.get(call.name):
            raise self.failures[call.name].pop(0)
        return self._changed(call, idempotency_key)

    def _changed(self, call: Call, key: str) -> Mapping[str, Any]:
        assert self.by_key.setdefault(key, (call.name, str(call.target))) == (call.name, str(call.target))
        if call.name in self.refusals:
            raise CallRefused(self.refusals[call.name], "no")
        if (call.name, key) not in [tuple(effect.split("|")) for effect in self.effects]:
            self.effects.append(f"{call.name}|{key}")
        if self.crash_after == call.name:
            self.crash_after = None
            raise Crash
        return {"id": f"{call.name}_1"}

    @property
    def done(self) -> list[str]:
        """The calls that had an effect, in order; one under two keys would be there twice."""
        return [effect.partition("|")[0] for effect in self.effects]


@dataclass
class DyingClock(StandingClock):
    """The process dies when the clock is read for the n-th time: that is before each entry into the journal."""

    readings_left: int | None = None

    async def situation(self, connection: Connection) -> Situation:
        if self.readings_left is not None:
            self.readings_left -= 1
            if self.readings_left < 0:
                self.readings_left = None
                raise Crash
        return await super().situation(connection)


class Alone(Together):
    """Decides each outcome in the task that brings it, so that a crash is that task's."""

    async def decide(self, item: Item) -> Outcome:
        return (await self._decider.decide([item]))[0]


@dataclass
class Operating(Acting):
    """A worker that carries operations."""

    calls: FakeStripe = field(default_factory=FakeStripe)
    clock: DyingClock = field(default_factory=DyingClock)

    def crew(self, kind: StepKind = StepKind.OPERATION) -> StepCrew:
        carrier = OperationCarrier(kind, self.calls, OPERATIONS, self.decider, CATALOGUE)
        return StepCrew(carrier, self.decider, Alone(self.decider), self.metrics, operation_stopped)

    async def work(self, kind: StepKind = StepKind.OPERATION) -> int:
        """Claim what is due, and carry it out."""
        crew = self.crew(kind)
        jobs = await crew.claim(8)
        for job in jobs:
            await crew.carry_out(job)
        return len(jobs)

    async def step(self, kind: StepKind = StepKind.OPERATION) -> tuple[Any, ...]:
        [row] = await self.fetch(
            "SELECT state, result, error FROM steps WHERE kind = $1 ORDER BY id DESC LIMIT 1", kind
        )
        return row

    async def name(self) -> Any:
        return (await self.fetch("SELECT name FROM users"))[0][0]

    async def reads(self) -> int:
        return len(await self.fetch("SELECT 1 FROM steps WHERE kind = 'read_subscriptions'"))


@asynccontextmanager
async def operating(database_url: str) -> AsyncIterator[Operating]:
    clock = DyingClock()
    async with a_decider(database_url, clock) as decider:
        yield Operating(decider, clock=clock)


def selling(command_id: str = "command:1", *, lease: NewLease | None = None) -> Item:
    """The command; without a lease its operation is for a worker at once."""
    parts = PARTS | {Operations}
    return Item(
        command_id, "user:ada", parts, lambda account, _: begin(account, "sell", Asked(), command_id), lease=lease
    )


def keeping_the_schedule(message_id: str = "evt_1", title: str = "kept") -> Item:
    def decide(account: Account, _: Situation) -> Decision:
        return Decision(account, (keeping(account, "sell", {"title": title}),))

    return Item(message_id, "user:ada", PARTS, decide)


def a_lease() -> NewLease:
    return NewLease(UUID(int=7), LEASE)


def spent() -> KeySpent:
    return KeySpent("Stripe: APIError (status 500)")
