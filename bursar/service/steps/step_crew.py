"""A crew for one kind of step."""

import time
from functools import partial

import structlog

from bursar.billing.errors import AskAgain, BursarError, OwnServerAway, Permanent, Retryable, Stale, describe
from bursar.billing.steps import StepKind, StepState
from bursar.db import steps
from bursar.db.clock import Clock
from bursar.db.connections import Connection
from bursar.db.items import Item, OutcomeState
from bursar.db.parts import load_accounts
from bursar.handlers.steps import PARTS, step_ended
from bursar.service.deciding.decider import Decider
from bursar.service.observability.metrics import Metrics
from bursar.service.steps.bounds import LEASE, STEPS, Bounds
from bursar.service.steps.crew import Crew
from bursar.service.steps.jobs import StepJob, StepWork, Stopped
from bursar.service.steps.together import Together, patiently

log = structlog.get_logger()


class StepCrew:
    """Carries out one kind of step: claim, look whether it is still wanted, call, decide on the outcome.

    No lock is held and no transaction is open during a call. A crash at any point leaves a lease, which ends.
    """

    def __init__(
        self,
        work: StepWork,
        decider: Decider,
        together: Together,
        metrics: Metrics,
        stopped: Stopped = step_ended,
    ) -> None:
        self._work = work
        self._stopped = stopped
        self._decider = decider
        self._together = together
        self._metrics = metrics
        self._bounds: Bounds = STEPS[work.kind]
        self.crew = Crew[StepJob](work.kind, self._bounds.at_once, self.claim, self.carry_out)

    @property
    def kind(self) -> StepKind:
        """Of the steps that it carries out."""
        return self._work.kind

    async def claim(self, limit: int) -> list[StepJob]:
        """At most `limit` due steps, each with its account as it is now."""
        return await self._decider.with_connection(
            lambda connection: claim_jobs(connection, self._decider.clock, self._work.kind, limit)
        )

    async def carry_out(self, job: StepJob) -> None:
        """One attempt, from the call to the step's end or its next instant."""
        began = time.perf_counter()
        with structlog.contextvars.bound_contextvars(step=job.step.key, attempt=job.step.attempts):
            ended = await self._attempt(job)
        self._metrics.step_seconds.labels(self._work.kind, ended).observe(time.perf_counter() - began)
        if ended == StepState.FAILED:
            self._metrics.steps_failed.labels(self._work.kind).inc()

    async def _attempt(self, job: StepJob) -> str:
        if job.step.attempts > self._bounds.attempts:
            return await self._fail(job, "out of attempts")
        try:
            item = await self._work.attempt(job, partial(self._begin_call, job))
        except Stale:
            log.warning("step lost its lease before the call")
            return "lost"
        except Permanent as error:
            return await self._fail(job, describe(error))
        except Exception as error:  # noqa: BLE001 - a bug or a passing trouble: tried again within its bounds
            return await self._retry(job, error)
        return await self._decide(job, item)

    async def _decide(self, job: StepJob, item: Item) -> str:
        outcome = await self._together.decide(item)
        if outcome.state is OutcomeState.FAILED and not isinstance(outcome.error, AskAgain):
            error = outcome.error or Retryable("not saved")
            return await (self._fail(job, describe(error)) if isinstance(error, Permanent) else self._retry(job, error))
        state = item.answer.state if item.answer else StepState.DONE
        if outcome.state is OutcomeState.APPLIED:
            if state is StepState.FAILED:
                log.error("step failed", error=item.answer.error if item.answer else None)
            return state
        return "asked_again" if outcome.error else "overtaken"

    async def _fail(self, job: StepJob, error: str) -> str:
        log.error("step failed", error=error)
        await self._together.decide(self._stopped(job.step, StepState.FAILED, error))
        return StepState.FAILED

    async def _retry(self, job: StepJob, error: Exception) -> str:
        """Postpone the step; after its last attempt it is an operator's. An outage of our own uses up no attempt."""
        if not isinstance(error, BursarError):
            log.error("step crashed", error=describe(error))
        counts = not isinstance(error, OwnServerAway)
        if counts and job.step.attempts >= self._bounds.attempts:
            return await self._fail(job, describe(error))
        wish = error.retry_after_seconds if isinstance(error, Retryable) else None
        delay = self._bounds.backoff.delay(job.step.attempts, wish)
        log.info("step postponed", error=describe(error), seconds=round(delay.total_seconds()))

        async def postpone(connection: Connection) -> None:
            real_now = (await self._decider.clock.situation(connection)).real_now
            due_at = real_now + delay
            await steps.postpone(connection, job.step, real_now, due_at, describe(error), counts=counts)

        await patiently(lambda: self._decider.with_connection(postpone))
        return "postponed"

    async def _begin_call(self, job: StepJob) -> None:
        async def begin(connection: Connection) -> bool:
            real_now = (await self._decider.clock.situation(connection)).real_now
            return await steps.begin_call(connection, job.step, real_now + LEASE)

        if not await self._decider.with_connection(begin):
            raise Stale("the lease is another's")


async def claim_jobs(connection: Connection, clock: Clock, kind: StepKind, limit: int) -> list[StepJob]:
    """Claim steps, then load their accounts without a lock."""
    situation = await clock.situation(connection)
    claimed = await steps.claim(connection, kind, situation.real_now, situation.real_now + LEASE, limit)
    if not claimed:
        return []
    accounts = await load_accounts(connection, {step.account_key for step in claimed}, PARTS)
    return [StepJob(step, accounts[step.account_key], situation) for step in claimed]
