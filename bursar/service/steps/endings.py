"""Ending the subscriptions of a deleted user at Stripe (KC-120)."""

import asyncio
from typing import Protocol

from bursar.billing.errors import Permanent, Retryable, describe
from bursar.billing.kiloclaw.following import UNENDED
from bursar.billing.steps import StepKind, StepState
from bursar.billing.stripe_calls import Call, Method
from bursar.billing.stripe_objects import StripeSubscription
from bursar.db.items import Item
from bursar.handlers.steps import step_ended
from bursar.service.steps.bounds import STEPS
from bursar.service.steps.jobs import BeginCall, StepJob
from bursar.service.steps.operations import StripeCalls

# What may still be ended: `paused` and `incomplete` cost nothing yet, but may begin to.
ENDABLE = UNENDED | {"paused", "incomplete"}


class EndsSubscriptions(StripeCalls, Protocol):
    """What is asked of Stripe."""

    async def retrieve_subscription(self, subscription_id: str) -> StripeSubscription | None: ...


class SubscriptionEnder:
    """Looks first; then releases the schedule, under which Stripe refuses to cancel, and cancels at once."""

    kind = StepKind.END_SUBSCRIPTION

    def __init__(self, stripe: EndsSubscriptions) -> None:
        self._stripe = stripe

    async def attempt(self, job: StepJob, _: BeginCall) -> Item:
        """The outcome. Raises `Retryable` for another attempt, also where Stripe refused, be it our key: it looks again
        then, since the user would go on paying.
        """
        try:
            async with asyncio.timeout(STEPS[self.kind].timeout_seconds):
                await self._end(job, job.step.payload["stripe_subscription_id"])
        except TimeoutError:
            raise Retryable("Stripe did not answer in time") from None
        except Permanent as error:
            raise Retryable(f"Stripe did not end it ({describe(error)})") from None
        return step_ended(job.step, StepState.DONE)

    async def _end(self, job: StepJob, subscription_id: str) -> None:
        found = await self._stripe.retrieve_subscription(subscription_id)
        if found is None or found.status not in ENDABLE:
            return
        if found.schedule:
            await self._call(job, Call("release", Method.RELEASE_SCHEDULE, found.schedule))
        await self._call(job, Call("cancel", Method.CANCEL_SUBSCRIPTION, subscription_id))

    async def _call(self, job: StepJob, call: Call) -> None:
        # A key of each attempt's own, so that Stripe replays no stored failure: it looked first, and an end comes once.
        await self._stripe.call(call, f"{job.step.key}:{job.step.asked}:{job.step.attempts}:{call.name}")
