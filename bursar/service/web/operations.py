"""Commands that change something at Stripe: decided, then carried out within the request; workers go on where it
could not end in time.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import structlog
from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random,
    wait_random_exponential,
)

from bursar.billing.account import Account
from bursar.billing.errors import AskAgain, KeyRefused, OwnServerAway, Permanent, Refused, Retryable, Stale, describe
from bursar.billing.operations import operation_key
from bursar.billing.steps import StepKind, StepState
from bursar.billing.values import replace
from bursar.db import operations, steps
from bursar.db.connections import Connection
from bursar.db.items import Dedupe, Item, NewLease, Outcome, OutcomeState, Situation
from bursar.db.operations import KnownStep
from bursar.handlers.operations import operation_stopped
from bursar.service.deciding.decider import DatabaseUnavailable
from bursar.service.steps.bounds import LEASE, STEPS
from bursar.service.steps.jobs import StepJob
from bursar.service.steps.operations import OperationCarrier
from bursar.service.web.commands import kept_result, translated
from bursar.service.web.dependencies import WebDependencies
from bursar.service.web.problems import StripeUnavailable

log = structlog.get_logger()

ATTEMPTS = 3  # within one request, besides waiting for another's claim to end
WAIT_SECONDS = (0.1, 0.4)  # between two looks at a step that another carries out

ItemOf = Callable[[NewLease], Item]


class _CarriedByAnother(Retryable):
    """Another request or a worker has claimed the step."""


async def operated(web: WebDependencies, item_of: ItemOf) -> Mapping[str, Any]:
    """Decide a command, carry its operation out, and return the result; the same command again finds its step.

    Raises what the decision raised, `Refused` for why the operation failed, or `StripeUnavailable` when it cannot end
    in time: then workers go on, and whoever asks again under the same key is told how it ended.
    """
    lease = NewLease(UUID(bytes=secrets.token_bytes(16), version=4), LEASE)
    item = item_of(lease)
    inline = _Inline(web, operation_key(item.id), lease.id)
    outcome = await _decided(web, item)
    if outcome.state is OutcomeState.DUPLICATE:
        if await inline.is_known():
            return await inline.result()
        if (kept := await kept_result(web.decider, item)) is not None:
            return kept
        outcome = await _decided(web, replace(item, dedupe=Dedupe.STATE))  # as `decided` does
    decision = outcome.decision
    if decision and any(step.kind is StepKind.OPERATION for step in decision.steps):
        return await inline.result()
    return (decision.result if decision else None) or {}


async def _decided(web: WebDependencies, item: Item) -> Outcome:
    [outcome] = await web.decider.decide([item])
    if outcome.error:
        raise translated(outcome.error)
    return outcome


class _Inline:
    """One request's work on the step of its command, under the lease that it was born with."""

    def __init__(self, web: WebDependencies, key: str, lease: UUID) -> None:
        self._web = web
        self._decider = web.decider
        self._key = key
        self._lease = lease
        self._carrier = OperationCarrier(StepKind.OPERATION, web.stripe, web.operations, web.decider, web.catalogue)

    async def is_known(self) -> bool:
        """Whether the command began an operation before."""
        return await self._decider.with_connection(self._found) is not None

    async def result(self) -> Mapping[str, Any]:
        """The operation's result, or its failure as `Refused`, within the budget of the request."""
        try:
            async with asyncio.timeout(self._web.operation_budget_seconds):
                return _answer(await self._ended())
        except TimeoutError:
            error = Retryable("the operation did not end in time")
        except DatabaseUnavailable:
            raise  # the claim ends by itself
        except Retryable as caught:
            error = caught
        await self._leave_to_workers(error)
        raise StripeUnavailable(describe(error), retry_after_seconds=error.retry_after_seconds) from error

    async def _ended(self) -> Mapping[str, Any]:
        """What the step ended with; the budget bounds how long another is waited for."""
        async for look in AsyncRetrying(
            retry=retry_if_exception_type(_CarriedByAnother),
            wait=wait_random(*WAIT_SECONDS),
        ):
            with look:
                return await self._tried()
        raise AssertionError("unreachable: there is no last attempt")

    async def _tried(self) -> Mapping[str, Any]:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(_may_pass),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.2, max=2),
            reraise=True,
        ):
            with attempt:
                return await self._attempt()
        raise AssertionError("unreachable: the last attempt raises")

    async def _attempt(self) -> Mapping[str, Any]:
        known, situation = await self._decider.with_connection(self._taken)
        if known.state is not StepState.DUE:
            return known.result or {}
        job = StepJob(known.step, Account(known.step.account_key), situation)
        with structlog.contextvars.bound_contextvars(step=self._key, attempt=job.step.attempts):
            item = await self._item(job)
        [outcome] = await self._decider.decide([item])
        if isinstance(outcome.error, Permanent):
            item = _stopped(job, outcome.error)
            [outcome] = await self._decider.decide([item])
        if outcome.state is OutcomeState.DUPLICATE or isinstance(outcome.error, AskAgain):
            raise _CarriedByAnother("the step is no longer ours")
        if outcome.error:
            raise outcome.error
        assert item.answer, "an operation's end answers its step"
        if item.answer.state is StepState.FAILED:
            self._web.metrics.steps_failed.labels(StepKind.OPERATION).inc()
        return item.answer.result or {}

    async def _item(self, job: StepJob) -> Item:
        try:
            return await self._carrier.attempt(job, _no_call)
        except Stale:
            raise _CarriedByAnother("the lease is another's") from None
        except Permanent as error:
            return _stopped(job, error)

    async def _found(self, connection: Connection) -> KnownStep | None:
        return await operations.find(connection, self._key)

    async def _taken(self, connection: Connection) -> tuple[KnownStep, Situation]:
        """The step, ended or claimed by us."""
        known, situation = await self._found(connection), await self._decider.clock.situation(connection)
        assert known, "the decision was committed"
        if known.state is not StepState.DUE or known.lease == self._lease:
            return known, situation
        real_now = situation.real_now
        if not await operations.claim_one(connection, known.step.id, self._lease, real_now, real_now + LEASE):
            raise _CarriedByAnother("another carries the operation out")
        claimed = replace(known.step, lease=self._lease, attempts=known.step.attempts + 1)
        return replace(known, step=claimed), situation

    async def _leave_to_workers(self, error: Retryable) -> None:
        """Give the step back, if it is ours, so that workers go on at once instead of after the lease."""

        async def leave(connection: Connection) -> None:
            known = await self._found(connection)
            if known and known.lease == self._lease:
                real_now = (await self._decider.clock.situation(connection)).real_now
                delay = STEPS[StepKind.OPERATION].backoff.delay(known.step.attempts, error.retry_after_seconds)
                counts = not isinstance(error, OwnServerAway)
                await steps.postpone(connection, known.step, real_now, real_now + delay, describe(error), counts=counts)

        await self._decider.with_connection(leave)


def _stopped(job: StepJob, error: Permanent) -> Item:
    """Its end as an operator's, whether a call or the decision on the end failed for good."""
    log.error("operation stopped", error=describe(error))
    return operation_stopped(job.step, StepState.FAILED, describe(error))


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, Retryable) and not isinstance(error, _CarriedByAnother | KeyRefused)


async def _no_call() -> None:
    """An operation notes its calls in its journal."""


def _answer(ended: Mapping[str, Any]) -> Mapping[str, Any]:
    failure = ended.get("failure")
    if failure:
        raise Refused(failure["code"], failure["message"], status=failure["status"])
    result: Mapping[str, Any] = ended.get("result") or {}
    return result
