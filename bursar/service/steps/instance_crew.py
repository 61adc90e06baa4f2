"""The crew that brings instances to their desired state (KC-77, KC-90…KC-92)."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Protocol

import structlog

from bursar.billing.errors import Permanent, describe
from bursar.billing.kiloclaw.rows import DesiredState, Hosting
from bursar.db import instances
from bursar.db.connections import Connection
from bursar.db.instances import ClaimedInstance
from bursar.db.items import Outcome, OutcomeState
from bursar.handlers.steps import instance_outcome
from bursar.service.deciding.decider import Decider
from bursar.service.gateways.instances import CallOutcome, CallResult
from bursar.service.observability.metrics import Metrics
from bursar.service.steps.bounds import INSTANCES, INSTANCES_AT_ONCE, INSTANCES_TIMEOUT_SECONDS, LEASE
from bursar.service.steps.crew import Crew
from bursar.service.steps.together import Together, patiently

log = structlog.get_logger()


class InstanceApi(Protocol):
    """What is asked of the instance API, once per call. Raises `Permanent` for an id that no address can name."""

    async def bring_about(
        self, instance_id: str, desired: DesiredState, generation: int, idempotency_key: str
    ) -> CallResult: ...


class InstanceCrew:
    """One call at a time per instance, always towards the newest generation, tried again without an end."""

    def __init__(self, api: InstanceApi, decider: Decider, together: Together, metrics: Metrics) -> None:
        self._api = api
        self._decider = decider
        self._together = together
        self._metrics = metrics
        self.crew = Crew[ClaimedInstance]("instances", INSTANCES_AT_ONCE, self.claim, self.bring_about)

    def on_commit(self, outcomes: Sequence[Outcome]) -> None:
        """Wake up when a decision left an instance to be brought about."""
        parts = (one.decision.account.parts.get(Hosting) for one in outcomes if one.decision)
        if any(one.generation > one.done_generation for part in parts if part for one in part.instances):
            self.crew.wake()

    async def claim(self, limit: int) -> list[ClaimedInstance]:
        """At most `limit` instances whose newest generation is due."""

        async def claim(connection: Connection) -> list[ClaimedInstance]:
            real_now = (await self._decider.clock.situation(connection)).real_now
            return await instances.claim(connection, real_now, real_now + LEASE, limit)

        return await self._decider.with_connection(claim)

    async def bring_about(self, claimed: ClaimedInstance) -> None:
        """One call, then its outcome: decided on, or tried again later."""
        result = await self._call(claimed)
        self._metrics.instance_calls.labels(claimed.desired_state, result.outcome).inc()
        if result.outcome is CallOutcome.DONE:
            await self._record(claimed)
        else:
            await self._postpone(claimed, result)

    async def _call(self, claimed: ClaimedInstance) -> CallResult:
        key = f"instance:{claimed.id}:{claimed.generation}"
        try:
            async with asyncio.timeout(INSTANCES_TIMEOUT_SECONDS):
                return await self._api.bring_about(claimed.id, claimed.desired_state, claimed.generation, key)
        except (TimeoutError, Permanent) as error:
            return CallResult(CallOutcome.RETRY, describe(error))

    async def _record(self, claimed: ClaimedInstance) -> None:
        """An answer for a generation that is no longer the newest counts for that generation only (KC-91)."""
        outcome = await self._together.decide(instance_outcome(claimed))
        if outcome.state is OutcomeState.FAILED:
            error = describe(outcome.error) if outcome.error else None
            await self._postpone(claimed, CallResult(CallOutcome.RETRY, error))
            return
        release = partial(instances.release, claimed=claimed)
        await patiently(lambda: self._decider.with_connection(release))

    async def _postpone(self, claimed: ClaimedInstance, result: CallResult) -> None:
        delay = INSTANCES[claimed.desired_state].delay(claimed.attempts, result.retry_after_seconds)
        error = result.error or result.outcome
        log.warning(
            "instance not brought about",
            instance=claimed.id,
            desired=claimed.desired_state,
            generation=claimed.generation,
            attempt=claimed.attempts,
            error=error,
            seconds=round(delay.total_seconds()),
        )

        async def postpone(connection: Connection) -> None:
            real_now = (await self._decider.clock.situation(connection)).real_now
            await instances.postpone(connection, claimed, real_now + delay, error)

        await patiently(lambda: self._decider.with_connection(postpone))
