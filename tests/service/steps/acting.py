"""Crews on a real database, with hand-written gateways, and users to act for."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from bursar.billing.account import Account, Profile, user_key
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.rows import Hosting, Instance, Subscription
from bursar.billing.steps import StepKind
from bursar.billing.stripe.calls import Call
from bursar.billing.stripe.objects import StripeInvoice, StripeSubscription
from bursar.billing.values import replace
from bursar.db.items import Item, Outcome
from bursar.db.ticks import Tick
from bursar.handlers.steps import mail_stopped
from bursar.service.deciding.decider import Decider
from bursar.service.gateways.instances import CallOutcome, CallResult
from bursar.service.gateways.mail import OutgoingMail, SendOutcome, SendResult
from bursar.service.observability.metrics import Metrics
from bursar.service.steps.instance_crew import InstanceCrew
from bursar.service.steps.jobs import StepWork
from bursar.service.steps.mails import MailSender
from bursar.service.steps.reads import SubscriptionsReader
from bursar.service.steps.step_crew import StepCrew
from bursar.service.steps.together import Together
from bursar.sweeps.table import candidate
from tests.billing.kiloclaw.making import CATALOGUE, DAY, NOW, a_trial
from tests.db.deciding import StandingClock, a_decider, an_item

Meanwhile = Callable[[], Awaitable[None]]


async def nothing() -> None:
    """What happens during a call, unless a test says otherwise."""


@dataclass
class FakeMail:
    results: list[SendResult] = field(default_factory=list)
    sent: list[OutgoingMail] = field(default_factory=list)
    meanwhile: Meanwhile = nothing

    async def send(self, message: OutgoingMail) -> SendResult:
        self.sent.append(message)
        await self.meanwhile()
        return self.results.pop(0) if self.results else SendResult(SendOutcome.SENT)


@dataclass
class FakeStripe:
    listed: dict[str, list[StripeSubscription]] = field(default_factory=dict)
    known: dict[str, StripeSubscription] = field(default_factory=dict)
    invoices: dict[str, StripeInvoice] = field(default_factory=dict)  # the newest paid one of each subscription
    asked: list[str] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    meanwhile: Meanwhile = nothing

    async def list_subscriptions(self, customer_id: str) -> list[StripeSubscription]:
        await self._asked(customer_id)
        return self.listed.get(customer_id, [])

    async def retrieve_subscription(self, subscription_id: str) -> StripeSubscription | None:
        await self._asked(subscription_id)
        return self.known.get(subscription_id)

    async def newest_paid_invoice(self, subscription_id: str) -> StripeInvoice | None:
        await self._asked(f"paid:{subscription_id}")
        return self.invoices.get(subscription_id)

    async def call(self, call: Call, idempotency_key: str) -> Mapping[str, Any]:
        raise AssertionError(f"{call.name} was not expected, under {idempotency_key}")

    async def _asked(self, name: str) -> None:
        self.asked.append(name)
        await self.meanwhile()
        if self.failures:
            raise self.failures.pop(0)


@dataclass
class FakeInstances:
    results: list[CallResult] = field(default_factory=list)
    calls: list[tuple[str, str, int]] = field(default_factory=list)
    meanwhile: Meanwhile = nothing

    async def bring_about(self, instance_id: str, desired: str, generation: int, idempotency_key: str) -> CallResult:
        assert idempotency_key == f"instance:{instance_id}:{generation}"
        self.calls.append((instance_id, desired, generation))
        await self.meanwhile()
        return self.results.pop(0) if self.results else CallResult(CallOutcome.DONE)


@dataclass
class Acting:
    """A worker's acting half, worked by hand: each `do_…` claims what is due and carries it out."""

    decider: Decider
    clock: StandingClock
    mail: FakeMail = field(default_factory=FakeMail)
    stripe: FakeStripe = field(default_factory=FakeStripe)
    instances: FakeInstances = field(default_factory=FakeInstances)
    metrics: Metrics = field(default_factory=Metrics)

    def mail_crew(self) -> StepCrew:
        sender = MailSender(self.mail, "https://app.example.com")
        return StepCrew(sender, self.decider, Together(self.decider), self.metrics, mail_stopped)

    def read_crew(self) -> StepCrew:
        return self._crew(SubscriptionsReader(self.stripe, CATALOGUE))

    def instance_crew(self) -> InstanceCrew:
        return InstanceCrew(self.instances, self.decider, Together(self.decider), self.metrics)

    async def do_steps(self, kind: StepKind) -> int:
        crew = self.mail_crew() if kind is StepKind.SEND_MAIL else self.read_crew()
        jobs = await crew.claim(16)
        for job in jobs:
            await crew.carry_out(job)
        return len(jobs)

    async def do_mails(self) -> int:
        return await self.do_steps(StepKind.SEND_MAIL)

    async def do_reads(self) -> int:
        return await self.do_steps(StepKind.READ_SUBSCRIPTIONS)

    async def do_instances(self) -> int:
        crew = self.instance_crew()
        claimed = await crew.claim(32)
        for one in claimed:
            await crew.bring_about(one)
        return len(claimed)

    async def sweep(self, sweep: str, user: str = "ada") -> Outcome:
        tick = Tick(1, sweep, self.clock.now)
        return (await self.decider.decide([candidate(user_key(user), sweep, tick, CATALOGUE)]))[0]

    async def fetch(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        async with self.decider.pool.acquire() as connection:
            return [tuple(row) for row in await connection.fetch(query, *arguments)]

    async def steps(self) -> list[tuple[Any, ...]]:
        return await self.fetch("SELECT kind, state, attempts FROM steps ORDER BY id")

    async def mails(self) -> list[tuple[Any, ...]]:
        return await self.fetch("SELECT email_type, state FROM kiloclaw_email_log ORDER BY decided_at, email_type")

    def _crew(self, work: StepWork) -> StepCrew:
        return StepCrew(work, self.decider, Together(self.decider), self.metrics)


@asynccontextmanager
async def acting(database_url: str, destructions_per_day: int = 500) -> AsyncIterator[Acting]:
    clock = StandingClock()
    async with a_decider(database_url, clock, destructions_per_day) as decider:
        yield Acting(decider, clock)


def having(row: Subscription, user: str = "ada", *, instance: bool = True, **profile: Any) -> Item:
    """A message that leaves the user with that row, and with an instance that it points to."""

    def decide(account: Account) -> Decision:
        owned = Instance(id=f"inst-{user}", account_key=user_key(user), created_at=NOW)
        mine = replace(
            row,
            id=uuid5(NAMESPACE_URL, user),
            user_id=user,
            instance_id=owned.id if instance else None,
        )
        known = {"email": f"{user}@example.com", "name": user.title()} | profile
        hosting = Hosting(subscription=mine, instances=(owned,) if instance else ())
        return Decision(account.having(hosting).having(replace(account.part(Profile), **known)))

    return an_item(f"having:{user}", user, decide)


async def suspended_trial(worker: Acting, user: str = "ada", **profile: Any) -> None:
    """A user whose trial ended yesterday, swept: suspended, mail and stop asked for."""
    await worker.decider.decide([having(a_trial(), user, **profile)])
    worker.clock.now = NOW + 31 * DAY
    await worker.sweep("trial_expiry", user)
