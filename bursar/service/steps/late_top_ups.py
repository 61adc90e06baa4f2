"""Refunding top-ups that were paid for users who are deleted (KC-121)."""

import asyncio
from collections.abc import Mapping, Sequence

import structlog

from bursar.billing.credits.late_top_ups import LateTopUp
from bursar.billing.errors import CallRefused, KeySpent, Permanent, Retryable
from bursar.billing.steps import StepKind, StepState
from bursar.billing.stripe.calls import ALREADY_REFUNDED, Call, Method
from bursar.billing.stripe.lists import InvoicePayments
from bursar.db.deposits import is_deposited
from bursar.db.items import Item
from bursar.handlers.steps import step_ended
from bursar.service.deciding.decider import Decider
from bursar.service.steps.bounds import STEPS
from bursar.service.steps.jobs import BeginCall, StepJob
from bursar.service.steps.operations import StripeCalls

log = structlog.get_logger()


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
                for refund in await self._refunds(late, job):
                    await self._refund(refund, job)
        except TimeoutError:
            raise Retryable("Stripe did not answer in time") from None
        log.warning("top-up of a deleted user refunded", payment_id=late.payment_id)
        return step_ended(job.step, StepState.DONE)

    async def _refunds(self, late: LateTopUp, job: StepJob) -> Sequence[Mapping[str, str]]:
        """One, or those of everything that paid the invoice."""
        if late.search is None:
            return (late.refund,)
        found = InvoicePayments.model_validate(await self._stripe.call(late.search, job.step.key))
        if not found.refunds:
            raise Permanent("nothing is known to have paid the invoice")
        return found.refunds

    async def _refund(self, refund: Mapping[str, str], job: StepJob) -> None:
        """Under a key of the attempt's own where Stripe would only repeat a failure: what was given back it refuses."""
        (payment_id,) = refund.values()
        call, key = Call("refund", Method.CREATE_REFUND, params=refund), f"{job.step.key}:{payment_id}"
        try:
            try:
                await self._stripe.call(call, key)
            except KeySpent:
                await self._stripe.call(call, f"{key}:{job.step.attempts}")
        except CallRefused as refusal:
            if refusal.code != ALREADY_REFUNDED:
                raise
