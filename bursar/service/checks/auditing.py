"""The audit of credit accounts: all of them at once for operators, some each hour by itself (CR-4)."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from bursar.billing.account import user_key
from bursar.billing.steps import StepKind, StepState
from bursar.db import credit_audit, ticks
from bursar.db.connections import Connection
from bursar.db.credit_audit import Audited
from bursar.db.items import Item
from bursar.handlers.steps import step_ended
from bursar.service.deciding.decider import Decider
from bursar.service.steps.jobs import BeginCall, StepJob
from bursar.service.ticks.paging import HOUSE_PARTITION
from bursar.sweeps.checks import CHECKS

log = structlog.get_logger()

AUDIT = "audit"
PAGE_ACCOUNTS = 500
PAGES_PER_RUN = 100  # 50,000 accounts an hour: over a million a day
MAX_PAGES = 100_000  # of a whole audit; 50 million accounts

OnPage = Callable[[int], Awaitable[None]]


@dataclass(slots=True)
class AuditReport:
    """What a run saw: how many accounts, those that do not fit, and how many of these were not known before."""

    audited: int = 0
    mismatches: list[Audited] = field(default_factory=list)
    new: int = 0

    def counts(self) -> dict[str, int]:
        """The figures, for the tick."""
        return {"audited": self.audited, "mismatches": len(self.mismatches), "new": self.new}


class Auditing:
    """Page by page, each a short read of its own: nobody is kept waiting."""

    def __init__(self, decider: Decider, page_accounts: int = PAGE_ACCOUNTS) -> None:
        self._decider = decider
        self._page_accounts = page_accounts

    async def everything(self, on_page: OnPage) -> AuditReport:
        """Audit every account, from the first; `on_page` is told how many are done."""
        report, after = AuditReport(), ""
        for _ in range(MAX_PAGES):
            page = await self._page(after, report)
            await on_page(report.audited)
            if len(page) < self._page_accounts:
                return report
            after = page[-1].user_id
        return report

    async def some(self, on_page: OnPage, pages: int = PAGES_PER_RUN) -> AuditReport:
        """Go on where the last run ended, for so many pages; the next round begins after the last account."""
        report = AuditReport()
        after = await self._decider.with_connection(credit_audit.audited_up_to)
        for _ in range(pages):
            page = await self._page(after, report)
            after = page[-1].user_id if len(page) == self._page_accounts else ""
            await self._decider.with_connection(lambda connection, at=after: self._move_on(connection, at))  # type: ignore[misc]
            await on_page(report.audited)
            if not after:
                break
        return report

    async def _page(self, after: str, report: AuditReport) -> list[Audited]:
        page = await self._decider.with_connection(
            lambda connection: credit_audit.audit_page(connection, after, self._page_accounts)
        )
        report.audited += len(page)
        report.mismatches += [one for one in page if not one.fits]
        if page:
            await self._decider.with_connection(lambda connection: self._note(connection, page, report))
        return page

    async def _note(self, connection: Connection, page: list[Audited], report: AuditReport) -> None:
        real_now = (await self._decider.clock.situation(connection)).real_now
        await credit_audit.note_mended(connection, [one.user_id for one in page if one.fits], real_now)
        wrong = [one for one in page if not one.fits]
        for user_id in await credit_audit.note(connection, wrong, real_now) if wrong else ():
            report.new += 1
            log.error("counters do not fit the entries, charges are stopped", account=user_key(user_id))

    async def _move_on(self, connection: Connection, after: str) -> None:
        real_now = (await self._decider.clock.situation(connection)).real_now
        await credit_audit.move_on(connection, after, real_now)


class Auditor:
    """The step of the sweep `audit`: the next pages, reported to the tick."""

    kind: StepKind = CHECKS[AUDIT]

    def __init__(self, auditing: Auditing, decider: Decider) -> None:
        self._auditing = auditing
        self._decider = decider

    async def attempt(self, job: StepJob, begin_call: BeginCall) -> Item:
        """Each page renews the lease."""

        async def so_far(_: int) -> None:
            await begin_call()

        report = await self._auditing.some(so_far)
        tick_id, counts = job.step.payload["tick_id"], report.counts()
        await self._decider.with_connection(
            lambda connection: ticks.report(connection, tick_id, HOUSE_PARTITION, AUDIT, counts)
        )
        return step_ended(job.step, StepState.DONE)
