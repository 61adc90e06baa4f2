"""Ending at Stripe what a deleted user would go on paying: subscriptions, and pages on which to buy (KC-120)."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

import structlog

from bursar.billing.credits.payments import TOP_UP
from bursar.billing.errors import CallRefused, Permanent, Retryable, describe
from bursar.billing.kiloclaw.endings import ENDABLE
from bursar.billing.steps import StepKind, StepState
from bursar.billing.stripe.calls import ALREADY_REFUNDED, Call, Method
from bursar.billing.stripe.lists import CheckoutSessions, InvoicePayments
from bursar.billing.stripe.objects import StripeSubscription
from bursar.billing.stripe.sales import CheckoutSession
from bursar.db.items import Item
from bursar.db.kiloclaw import pays_for_a_row
from bursar.db.users import keys_of_customers
from bursar.handlers.steps import step_ended
from bursar.service.deciding.decider import Decider
from bursar.service.steps.bounds import STEPS
from bursar.service.steps.jobs import BeginCall, StepJob
from bursar.service.steps.operations import StripeCalls

log = structlog.get_logger()

OUR_PAGES = frozenset({"kiloclaw", TOP_UP})  # `metadata.type` of the checkout sessions that we open
LOOKS = 2  # a page may be paid while it is being expired
CUSTOMER_MISSING = "resource_missing"


class EndsSubscriptions(StripeCalls, Protocol):
    """What is asked of Stripe to end one subscription."""

    async def retrieve_subscription(self, subscription_id: str) -> StripeSubscription | None: ...


class EndsCustomers(StripeCalls, Protocol):
    """What is asked of Stripe to end all that a customer has."""

    async def list_subscriptions(self, customer_id: str) -> list[StripeSubscription]: ...


class SubscriptionEnder:
    """Looks first; then releases the schedule, under which Stripe refuses to cancel, cancels at once, and gives back
    what was paid for nothing.
    """

    kind = StepKind.END_SUBSCRIPTION

    def __init__(self, stripe: EndsSubscriptions, decider: Decider) -> None:
        self._stripe = stripe
        self._decider = decider

    async def attempt(self, job: StepJob, _: BeginCall) -> Item:
        """The outcome; dropped where it pays for a row by now: an enrolment that fell past due gave way (KC-74).
        Raises `Retryable` for another attempt.
        """
        subscription_id = job.step.payload["stripe_subscription_id"]
        if await self._decider.with_connection(lambda connection: pays_for_a_row(connection, subscription_id)):
            return step_ended(job.step, StepState.DROPPED)
        async with _tried_again(self.kind):
            found = await self._stripe.retrieve_subscription(subscription_id)
            if found:
                await _end(self._stripe, job, found)
            unused_invoice_id = job.step.payload.get("unused_invoice_id")
            if unused_invoice_id:
                await self._give_back(job, unused_invoice_id)
        return step_ended(job.step, StepState.DONE)

    async def _give_back(self, job: StepJob, invoice_id: str) -> None:
        """All that paid the invoice (CR-25). Stripe refuses to give a payment back twice, whatever the key."""
        params = {"invoice": invoice_id, "status": "paid"}
        shown = await _call(self._stripe, job, Call("list-payments", Method.LIST_INVOICE_PAYMENTS, params=params))
        for refund in InvoicePayments.model_validate(shown).refunds:
            await self._refund(job, refund)

    async def _refund(self, job: StepJob, refund: Mapping[str, str]) -> None:
        (payment_id,) = refund.values()
        try:
            await _call(self._stripe, job, Call(f"refund:{payment_id}", Method.CREATE_REFUND, params=refund))
        except CallRefused as refusal:
            if refusal.code != ALREADY_REFUNDED:
                raise
        log.warning("subscription beside credits refunded", payment_id=payment_id)


class CustomerEnder:
    """Expires the pages that the customer left open, then ends every subscription of ours, heard of or not."""

    kind = StepKind.END_CUSTOMER

    def __init__(self, stripe: EndsCustomers, decider: Decider) -> None:
        self._stripe = stripe
        self._decider = decider

    async def attempt(self, job: StepJob, _: BeginCall) -> Item:
        """The outcome; dropped where the customer is known as somebody's by now, to whom all of it belongs then. Raises
        `Retryable` for another attempt.
        """
        customer_id = job.step.payload["stripe_customer_id"]
        if await self._decider.with_connection(lambda connection: keys_of_customers(connection, [customer_id])):
            return step_ended(job.step, StepState.DROPPED, forgets=True)
        async with _tried_again(self.kind):
            await self._end_all(job, customer_id)
        return step_ended(job.step, StepState.DONE, forgets=True)

    async def _end_all(self, job: StepJob, customer_id: str) -> None:
        for look in range(LOOKS):
            pages = await self._open_pages(job, customer_id)
            for page in pages:
                await self._expire(job, page, look)
            for subscription in await self._stripe.list_subscriptions(customer_id):
                if subscription.is_kiloclaw:
                    await _end(self._stripe, job, subscription)
            if not pages:
                return
        raise Retryable("pages were open at the second look, too")

    async def _open_pages(self, job: StepJob, customer_id: str) -> list[CheckoutSession]:
        params = {"customer": customer_id, "status": "open"}
        try:
            found = await _call(self._stripe, job, Call("list-open", Method.LIST_CHECKOUT_SESSIONS, params=params))
        except CallRefused as refusal:
            if refusal.code != CUSTOMER_MISSING:
                raise
            return []
        return [one for one in CheckoutSessions.model_validate(found).data if one.metadata.get("type") in OUR_PAGES]

    async def _expire(self, job: StepJob, page: CheckoutSession, look: int) -> None:
        """A refusal is left to the next look: it may have been paid or expired meanwhile."""
        with suppress(CallRefused):
            await _call(self._stripe, job, Call(f"expire:{look}:{page.id}", Method.EXPIRE_CHECKOUT_SESSION, page.id))


async def _end(stripe: StripeCalls, job: StepJob, found: StripeSubscription) -> None:
    if found.status not in ENDABLE:
        return
    if found.schedule:
        await _call(stripe, job, Call(f"release:{found.schedule}", Method.RELEASE_SCHEDULE, found.schedule))
    await _call(stripe, job, Call(f"cancel:{found.id}", Method.CANCEL_SUBSCRIPTION, found.id))


async def _call(stripe: StripeCalls, job: StepJob, call: Call) -> Mapping[str, Any]:
    # A key of each attempt's own, so that Stripe replays no stored failure: it looked first, and an end comes once.
    return await stripe.call(call, f"{job.step.key}:{job.step.asked}:{job.step.attempts}:{call.name}")


@asynccontextmanager
async def _tried_again(kind: StepKind) -> AsyncIterator[None]:
    """`Retryable` also where Stripe refused: the next attempt looks again, since the user would go on paying."""
    try:
        async with asyncio.timeout(STEPS[kind].timeout_seconds):
            yield
    except TimeoutError:
        raise Retryable("Stripe did not answer in time") from None
    except Permanent as error:
        raise Retryable(f"Stripe did not end it ({describe(error)})") from None
