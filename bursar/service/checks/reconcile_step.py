"""The step of the sweep `reconcile`: one run, reported to its tick, to the metrics and to the log (MS-10)."""

from datetime import datetime, timedelta

import structlog

from bursar.billing.kiloclaw.reconciling import FindingKind
from bursar.billing.steps import StepKind, StepState
from bursar.db import ticks
from bursar.db.connections import Connection
from bursar.db.items import Item
from bursar.handlers.steps import step_ended
from bursar.service.checks.reconciling import Reconciling, Report
from bursar.service.deciding.decider import Decider
from bursar.service.observability.metrics import Metrics
from bursar.service.steps.jobs import BeginCall, StepJob
from bursar.service.ticks.paging import HOUSE_PARTITION
from bursar.sweeps.checks import CHECKS
from bursar.sweeps.table import HOURLY

log = structlog.get_logger()

RECONCILE = "reconcile"
ONCE_IN = timedelta(hours=20)  # the hourly tick asks each hour; all of Stripe's list is read once a day


class Reconciler:
    """Runs when it is asked for by name; for the hourly tick once a day."""

    kind: StepKind = CHECKS[RECONCILE]

    def __init__(self, reconciling: Reconciling, decider: Decider, metrics: Metrics) -> None:
        self._reconciling = reconciling
        self._decider = decider
        self._metrics = metrics

    async def attempt(self, job: StepJob, begin_call: BeginCall) -> Item:
        """Each page renews the lease: a run may last."""

        async def so_far(_: int) -> None:
            await begin_call()

        real_now = job.situation.real_now
        if job.step.payload["plan"] == HOURLY and await self._decider.with_connection(
            lambda connection: _ran_lately(connection, real_now)
        ):
            return step_ended(job.step, StepState.DROPPED)
        report = await self._reconciling.run(so_far)
        self._tell(report)
        await self._decider.with_connection(lambda connection: _report(connection, job, report))
        return step_ended(job.step, StepState.DONE)

    def _tell(self, report: Report) -> None:
        for kind in FindingKind:
            self._metrics.reconcile_findings.labels(kind).set(report.counts[kind])
        told = log.warning if report.counts else log.info
        told("reconciled", **counts_of(report))


def counts_of(report: Report) -> dict[str, int]:
    """The figures of a run."""
    by_kind = {kind.value: report.counts[kind] for kind in FindingKind}
    total = {"compared": report.compared, "found": report.counts.total(), "repairs_asked": report.repairs_asked}
    return {**total, **by_kind, "not_looked_up": report.not_looked_up}


async def _ran_lately(connection: Connection, real_now: datetime) -> bool:
    last = await ticks.last_reported(connection, RECONCILE)
    return last is not None and last > real_now - ONCE_IN


async def _report(connection: Connection, job: StepJob, report: Report) -> None:
    await ticks.report(connection, job.step.payload["tick_id"], HOUSE_PARTITION, RECONCILE, counts_of(report))
