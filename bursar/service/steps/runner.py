"""The step runner of a process: a crew per kind of step, one for the instances, and the figures of what waits."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from bursar.billing.catalogue import Catalogue
from bursar.billing.errors import Retryable
from bursar.billing.operations import Operation
from bursar.billing.steps import StepKind
from bursar.billing.values import Value
from bursar.db import instances, steps
from bursar.db.connections import Connection
from bursar.db.items import Outcome
from bursar.handlers.operations import OPERATIONS, operation_stopped
from bursar.handlers.steps import mail_stopped
from bursar.service.checks.listing import StripeLists
from bursar.service.deciding.decider import Decider
from bursar.service.gateways.mail import MailGateway
from bursar.service.observability.metrics import Metrics
from bursar.service.steps.bounds import UNRESOLVED_AFTER
from bursar.service.steps.endings import CustomerEnder, SubscriptionEnder
from bursar.service.steps.instance_crew import InstanceApi, InstanceCrew
from bursar.service.steps.invoices import InvoiceFinder
from bursar.service.steps.jobs import StepWork
from bursar.service.steps.late_top_ups import TopUpReturner
from bursar.service.steps.mails import MailSender
from bursar.service.steps.operations import OperationCarrier, StripeCalls
from bursar.service.steps.reads import SubscriptionsGateway, SubscriptionsReader
from bursar.service.steps.step_crew import StepCrew
from bursar.service.steps.together import Together

MEASURE_SECONDS = 10.0


class StripeAccess(SubscriptionsGateway, StripeCalls, Protocol):
    """All that steps ask of Stripe."""


class Outside(Value):
    """Whom the steps call, and the product's address for the mails. `payments` goes first at Stripe, `checks` last
    (MS-11).
    """

    stripe: StripeAccess
    payments: StripeCalls
    instances: InstanceApi
    mail: MailGateway
    app_url: str
    checks: StripeLists


class StepRunner:
    """Carries out what is due, woken by the decider's commits and by polling. Any number of processes may run one."""

    def __init__(
        self,
        decider: Decider,
        outside: Outside,
        catalogue: Catalogue,
        metrics: Metrics,
        operations: Mapping[str, Operation[Any]] = OPERATIONS,
        checks: Sequence[StepWork] = (),
    ) -> None:
        self._decider = decider
        self._metrics = metrics
        together = Together(decider)
        works: tuple[StepWork, ...] = (
            SubscriptionsReader(outside.stripe, catalogue),
            SubscriptionEnder(outside.stripe, decider),
            CustomerEnder(outside.stripe, decider),
            InvoiceFinder(outside.stripe, decider),
            TopUpReturner(outside.payments, decider),
            *checks,
        )
        carriers = [
            OperationCarrier(kind, stripe, operations, decider, catalogue)
            for kind, stripe in (
                (StepKind.OPERATION, outside.payments),
                (StepKind.TOP_UP, outside.payments),
                (StepKind.KEEP_SCHEDULE, outside.stripe),
            )
        ]
        instance_crew = InstanceCrew(outside.instances, decider, together, metrics)
        step_crews = (
            StepCrew(MailSender(outside.mail, outside.app_url), decider, together, metrics, mail_stopped),
            *(StepCrew(work, decider, together, metrics) for work in works),
            *(StepCrew(carrier, decider, together, metrics, operation_stopped) for carrier in carriers),
        )
        self.crews: tuple[StepCrew | InstanceCrew, ...] = (*step_crews, instance_crew)
        self._by_kind = {crew.kind: crew for crew in step_crews}
        decider.on_commit(self._wake_crews)
        decider.on_commit(instance_crew.on_commit)

    async def run(self, stop: asyncio.Event) -> None:
        """Run until told to stop; then finish the calls that are under way."""
        async with asyncio.TaskGroup() as group:
            for crew in self.crews:
                group.create_task(crew.crew.run(stop))
            group.create_task(self._measure(stop))

    def _wake_crews(self, outcomes: Sequence[Outcome]) -> None:
        """Wake up those who carry out what was asked for."""
        asked = {step.kind for one in outcomes if one.decision for step in one.decision.steps}
        for kind in asked & self._by_kind.keys():
            self._by_kind[kind].crew.wake()

    async def _measure(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            with suppress(Retryable):  # the figures stand still while the database is away
                await self._decider.with_connection(self.measure)
            try:
                async with asyncio.timeout(MEASURE_SECONDS):
                    await stop.wait()
            except TimeoutError:
                continue

    async def measure(self, connection: Connection) -> None:
        """Set the gauges of what waits, and of what operators should look at."""
        real_now = (await self._decider.clock.situation(connection)).real_now
        backlog = await steps.backlog(connection, real_now)
        oldest = backlog.oldest_due_at or real_now
        self._metrics.steps_due.set(backlog.due)
        self._metrics.steps_oldest_age_seconds.set((real_now - oldest).total_seconds())
        self._metrics.unresolved_instances.set(
            await instances.count_unresolved(connection, real_now - UNRESOLVED_AFTER)
        )
