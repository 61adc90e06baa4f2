"""The step of the sweep `gap_check`: looks for itself whether events are missing, reports and feeds them in (MS-9)."""

from datetime import datetime, timedelta

import structlog

from bursar.billing.errors import Retryable
from bursar.billing.steps import StepKind, StepState
from bursar.db import ticks
from bursar.db.connections import Connection
from bursar.db.items import Item
from bursar.handlers.steps import step_ended
from bursar.service.checks.missed_events import KEPT_BY_STRIPE, SETTLES_IN, Fed, Missed, MissedEvents
from bursar.service.deciding.decider import Decider
from bursar.service.observability.metrics import Metrics
from bursar.service.steps.jobs import BeginCall, StepJob
from bursar.service.ticks.paging import HOUSE_PARTITION
from bursar.sweeps.checks import CHECKS

log = structlog.get_logger()

GAP_CHECK = "gap_check"
LOOKS_BACK = timedelta(hours=3)  # two hours more than the tick's distance
FIRST_LOOKS_BACK = timedelta(hours=24)
OVERLAP = timedelta(hours=1)
RENEW_EVERY = 256  # events fed in, well within the lease


class GapChecker:
    """Looks back to where the last finished check began, so that an outage of our own leaves no gap unseen."""

    kind: StepKind = CHECKS[GAP_CHECK]

    def __init__(self, missed: MissedEvents, decider: Decider, metrics: Metrics) -> None:
        self._missed = missed
        self._decider = decider
        self._metrics = metrics

    async def attempt(self, job: StepJob, begin_call: BeginCall) -> Item:
        """Each page, and each few hundred events, renews the lease: the check may last.

        Raises `Retryable` where more is missing than is fed in at once: nothing is reported before all of it was, so
        that the next check looks back as far.
        """

        async def on_page(_: int) -> None:
            await begin_call()

        async def on_event(number: int) -> None:
            if number % RENEW_EVERY == 0:
                await begin_call()

        real_now = job.situation.real_now
        since = await self._decider.with_connection(lambda connection: looks_back_to(connection, real_now))
        missed = await self._missed.find(since, real_now - SETTLES_IN, on_page)
        fed = await self._missed.feed(missed.events, on_event)
        self._tell(missed, fed)
        if missed.missing > len(missed.events):
            raise Retryable("more events are missing than are fed in at once")
        await self._decider.with_connection(lambda connection: _report(connection, job, missed, fed))
        return step_ended(job.step, StepState.DONE)

    def _tell(self, missed: Missed, fed: Fed) -> None:
        self._metrics.missed_events.labels("fed").inc(fed.published)
        self._metrics.missed_events.labels("parked").inc(fed.parked)
        if missed.missing:
            log.error("events missed", missing=missed.missing, fed=fed.published, parked=fed.parked, types=missed.types)


async def looks_back_to(connection: Connection, real_now: datetime) -> datetime:
    """From when on events are compared; at most as far back as Stripe keeps them."""
    last = await ticks.last_reported(connection, GAP_CHECK)
    since = min(real_now - LOOKS_BACK, last - OVERLAP if last else real_now - FIRST_LOOKS_BACK)
    return max(since, real_now - KEPT_BY_STRIPE)


async def _report(connection: Connection, job: StepJob, missed: Missed, fed: Fed) -> None:
    counts = {"listed": missed.listed, "found": missed.missing, "changed": fed.published, "parked": fed.parked}
    await ticks.report(connection, job.step.payload["tick_id"], HOUSE_PARTITION, GAP_CHECK, counts)
