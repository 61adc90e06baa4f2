"""A process of the service: the real parts, wired to the simulated outside. Dead, it leaves only what it committed."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, cast

from bursar.billing.catalogue import Catalogue
from bursar.db.decide import Limits
from bursar.db.items import Dedupe, Item, Outcome, OutcomeState
from bursar.handlers.messages import ReceivedMessage, item_of
from bursar.service.broker.batches import Batches
from bursar.service.broker.lane import Lane
from bursar.service.broker.read_ahead import ReadAhead
from bursar.service.broker.retries import Retries
from bursar.service.deciding.decider import Decider
from bursar.service.deciding.joint import JointDecider
from bursar.service.gateways.stripe import StripeGateway
from bursar.service.observability.metrics import Metrics
from bursar.service.processes.foundation import Foundation
from bursar.service.processes.worker import checks_of
from bursar.service.settings import Settings
from bursar.service.simulation.broker import Queues, SimulatedChannel, SimulatedPublisher
from bursar.service.simulation.clock import SimulatedClock
from bursar.service.simulation.database import Connections, SimulatedPool
from bursar.service.simulation.dying import Mortality
from bursar.service.simulation.outside import CallsOfAProcess, SimulatedInstances, SimulatedMails
from bursar.service.simulation.stripe import SimulatedStripe, stripe_gateway
from bursar.service.steps import runner
from bursar.service.steps.instance_crew import InstanceCrew
from bursar.service.steps.step_crew import StepCrew
from bursar.service.ticks.expanding import TickExpander
from bursar.service.ticks.paging import Sweeping
from bursar.service.ticks.scheduler import Scheduler
from bursar.service.web.dependencies import WebDependencies
from bursar.service.web.health import Check

if TYPE_CHECKING:
    from aiormq import Channel

    from bursar.db.connections import Pool

PARTITIONS = 2  # the one that keeps the house, and one that does not: every tick goes to each of them
ALL_DUE = 1_000  # so that no order among what is due decides who is left
APP_URL = "https://app.example.test"
# Reconciliation reports only: what it repaired would hide what went wrong.
SETTINGS = Settings.model_construct(bursar_reconcile_repairs=0)

Crews = Mapping[str, StepCrew | InstanceCrew]


@dataclass(slots=True)
class Outside:
    """Everything that outlives a process."""

    clock: SimulatedClock
    connections: Connections
    queues: Queues
    stripe: SimulatedStripe
    instances: SimulatedInstances
    mails: SimulatedMails
    catalogue: Catalogue
    metrics: Metrics
    decided: dict[str, list[datetime]] = field(default_factory=dict)  # by message id, when it was

    def note(self, outcomes: Sequence[Outcome]) -> None:
        """What a process of the service committed."""
        for one in outcomes:
            if one.state is OutcomeState.APPLIED and one.item.dedupe is Dedupe.INBOX:
                self.decided.setdefault(one.item.id, []).append(self.clock.now)


@dataclass(slots=True)
class Process:
    """One worker, web and scheduler process in one."""

    outside: Outside
    mortality: Mortality = field(default_factory=Mortality)
    pool: SimulatedPool = field(init=False)
    publisher: SimulatedPublisher = field(init=False)
    decider: Decider = field(init=False)
    sweeping: Sweeping = field(init=False)
    batches: Batches = field(init=False)
    retries: Retries = field(init=False)
    expander: TickExpander = field(init=False)
    scheduler: Scheduler = field(init=False)
    web: WebDependencies = field(init=False)
    crews: Crews = field(init=False)

    def __post_init__(self) -> None:
        outside = self.outside
        catalogue, metrics, clock = outside.catalogue, outside.metrics, outside.clock
        self.pool = SimulatedPool(outside.connections, self.mortality)
        self.publisher = SimulatedPublisher(outside.queues, self.mortality)
        limits = Limits(PARTITIONS, catalogue.kiloclaw.grace.destructions_per_day)
        self.decider = Decider(cast("Pool", self.pool), clock, limits)
        self.decider.on_commit(outside.note)
        self.sweeping = Sweeping(self.decider, catalogue)
        joint = JointDecider(self.decider)
        self.batches = Batches(joint, self._decode, self.sweeping, metrics, clock=clock.real)
        self.retries = Retries(self.decider, self._decode, self.sweeping, metrics, clock=clock.real)
        self.expander = TickExpander(self.decider, self.publisher)
        self.scheduler = Scheduler("", clock, self.publisher, metrics)
        stripe = stripe_gateway(outside.stripe, self.mortality, metrics)
        self.crews = self._crews(stripe)
        self.web = WebDependencies(
            settings=SETTINGS,
            decider=self.decider,
            publisher=self.publisher,
            metrics=metrics,
            catalogue=catalogue,
            readiness=_ready,
            stripe=stripe,
        )

    async def take_batch(self, partition: int, limit: int) -> None:
        """A lane of its own takes what the partition has, at most so much, and acknowledges it."""
        channel = SimulatedChannel(self.outside.queues, partition, self.mortality)
        lane = self._lane(partition, channel, limit)
        channel.on_acknowledged = lane.release
        try:
            for delivered in channel.deliver(limit):
                await lane.inflow.add(delivered)
            await lane.run()
        finally:
            channel.close()

    async def take_page(self, partition: int) -> bool:
        """One page of the tick that is under way on the partition; False where there is none."""
        return await self.sweeping.page(partition)

    async def expand(self) -> None:
        """The oldest tick that waits goes to the partitions; it is acknowledged afterwards."""
        ticks = self.outside.queues.ticks
        sweep, due_at = ticks[0]
        await self.expander.expand(sweep, due_at)
        ticks.popleft()

    async def tick(self) -> None:
        """What the leading scheduler does each second."""
        async with self.pool.acquire() as connection:
            await self.scheduler.tick(connection)

    async def carry_out(self, name: str) -> int:
        """A crew claims everything that is due for it and carries it out, one after the other."""
        crew = self.crews[name]
        if isinstance(crew, InstanceCrew):
            claimed = sorted(await crew.claim(ALL_DUE), key=lambda one: one.id)
            for instance in claimed:
                await crew.bring_about(instance)
            return len(claimed)
        jobs = sorted(await crew.claim(ALL_DUE), key=lambda job: job.step.key)
        for job in jobs:
            await crew.carry_out(job)
        return len(jobs)

    def _lane(self, partition: int, channel: SimulatedChannel, limit: int) -> Lane:
        slots, read_ahead = asyncio.Semaphore(1), ReadAhead()
        return Lane(
            partition, cast("Channel", channel), self.batches, self.sweeping, slots, read_ahead, max_batch=limit
        )

    def _decode(self, message: ReceivedMessage, account_key: str) -> Item:
        return item_of(message, account_key, self.outside.catalogue)

    def _crews(self, stripe: StripeGateway) -> Crews:
        """Those of a worker."""
        outside, clock = self.outside, self.outside.clock
        calls = CallsOfAProcess(outside.instances, outside.mails, self.mortality)
        called = runner.Outside(stripe, stripe, calls, calls, APP_URL, stripe)
        base = Foundation(SETTINGS, outside.catalogue, outside.metrics, cast("Pool", self.pool), clock, self.decider)
        checks = checks_of(base, self.publisher, called)
        steps = runner.StepRunner(self.decider, called, outside.catalogue, outside.metrics, checks=checks)
        return {crew.crew.name: crew for crew in steps.crews}


async def _ready() -> list[Check]:
    """Nobody asks a simulated process whether it is ready."""
    return []
