"""Refunding top-ups that were paid for users who are deleted (KC-121)."""

import asyncio

import structlog

from bursar.billing.credits.late_top_ups import LateTopUp
from bursar.billing.errors import CallRefused, KeySpent, Retryable
from bursar.billing.steps import StepKind, StepState
from bursar.db.deposits import is_deposited
from bursar.db.items import Item
from bursar.handlers.steps import step_ended
from bursar.service.deciding.decider import Decider
from bursar.service.steps.bounds import STEPS
from bursar.service.steps.jobs import BeginCall, StepJob
from bursar.service.steps.operations import StripeCalls

log = structlog.get_logger()

REFUNDED = "charge_already_refunded"


class TopUpReturner:
    """One refund per payment: the key is the payment's, and Stripe gives no more back than was paid."""

    kind = StepKind.RETURN_TOP_UP

    def __init__(self, stripe: StripeCalls, decider: Decider) -> None:
        self._stripe = stripe
        self._decider = decider

    async def attempt(self, job: StepJob, _: BeginCall) -> Item:
        """The outcome; dropped where the payment was credited before its user was deleted. Raises `Retryable`, or
        `Permanent` where Stripe refuses: an operator's.
        """
        late = LateTopUp.model_validate(job.step.payload)
        if await self._decider.with_connection(lambda connection: is_deposited(connection, late.payment_id)):
            return step_ended(job.step, StepState.DROPPED)
        try:
            async with asyncio.timeout(STEPS[self.kind].timeout_seconds):
                await self._refund(late, job)
        except TimeoutError:
            raise Retryable("Stripe did not answer in time") from None
        except CallRefused as refusal:
            if refusal.code != REFUNDED:
                raise
        log.warning("top-up of a deleted user refunded", payment_id=late.payment_id)
        return step_ended(job.step, StepState.DONE)

    async def _refund(self, late: LateTopUp, job: StepJob) -> None:
        """Under a key of the attempt's own where Stripe would only repeat a failure: what was given back it refuses."""
        try:
            await self._stripe.call(late.call, job.step.key)
        except KeySpent:
            await self._stripe.call(late.call, f"{job.step.key}:{job.step.attempts}")
