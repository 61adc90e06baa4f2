"""Reading a customer's subscriptions at Stripe (KC-31, KC-32, KC-74)."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from bursar.billing.catalogue import Catalogue
from bursar.billing.errors import Retryable
from bursar.billing.kiloclaw.reads import ReadTargets, SubscriptionsRead, read_targets, unsettled
from bursar.billing.steps import StepKind
from bursar.billing.stripe.objects import StripeInvoice, StripeSubscription
from bursar.db.items import Item
from bursar.handlers.steps import read_outcome, read_parts
from bursar.service.steps.bounds import STEPS
from bursar.service.steps.jobs import BeginCall, StepJob


class SubscriptionsGateway(Protocol):
    """What is asked of Stripe. Raises `Retryable` or `Permanent`."""

    async def list_subscriptions(self, customer_id: str) -> list[StripeSubscription]: ...

    async def retrieve_subscription(self, subscription_id: str) -> StripeSubscription | None: ...

    async def newest_paid_invoice(self, subscription_id: str) -> StripeInvoice | None: ...


class SubscriptionsReader:
    """Lists each customer, and retrieves each wanted subscription that the lists lack; of those in credits that nothing
    settled yet also what paid them.
    """

    kind = StepKind.READ_SUBSCRIPTIONS

    def __init__(self, gateway: SubscriptionsGateway, catalogue: Catalogue) -> None:
        self._gateway = gateway
        self._catalogue = catalogue

    async def attempt(self, job: StepJob, _: BeginCall) -> Item:
        """The outcome, dated before the call. A read may be made twice: it changes nothing at Stripe."""
        targets = read_targets(job.account)
        bounds = STEPS[self.kind]
        try:
            async with asyncio.timeout(bounds.timeout_seconds):
                found = await self._read(targets)
                paid = await self._paid(unsettled(job.account, found))
        except TimeoutError:
            raise Retryable("Stripe did not answer in time") from None
        read = SubscriptionsRead(
            tuple(found), targets.row_version, job.situation.now, targets.customer_ids, paid, targets.heard_ids
        )
        again_at = job.situation.real_now + bounds.backoff.delay(job.step.attempts)
        return read_outcome(job.step, read, self._catalogue, again_at, read_parts(job.account, read))

    async def _read(self, targets: ReadTargets) -> list[StripeSubscription]:
        found: dict[str, StripeSubscription] = {}
        for customer_id in targets.customer_ids:
            found |= {one.id: one for one in await self._gateway.list_subscriptions(customer_id)}
        for subscription_id in targets.subscription_ids:
            if subscription_id not in found:
                one = await self._gateway.retrieve_subscription(subscription_id)
                found |= {one.id: one} if one else {}
        return list(found.values())

    async def _paid(self, subscription_ids: Sequence[str]) -> dict[str, StripeInvoice]:
        asked = {one: await self._gateway.newest_paid_invoice(one) for one in subscription_ids}
        return {subscription_id: invoice for subscription_id, invoice in asked.items() if invoice}
