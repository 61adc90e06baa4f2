"""Reading a customer's subscriptions at Stripe (KC-31, KC-32, KC-74)."""

import asyncio
from typing import Protocol

from bursar.billing.catalogue import Catalogue
from bursar.billing.errors import Retryable
from bursar.billing.kiloclaw.reads import ReadTargets, SubscriptionsRead, read_targets
from bursar.billing.steps import StepKind
from bursar.billing.stripe.objects import StripeSubscription
from bursar.db.items import Item
from bursar.handlers.steps import read_outcome, read_parts
from bursar.service.steps.bounds import STEPS
from bursar.service.steps.jobs import BeginCall, StepJob


class SubscriptionsGateway(Protocol):
    """What is asked of Stripe. Raises `Retryable` or `Permanent`."""

    async def list_subscriptions(self, customer_id: str) -> list[StripeSubscription]: ...

    async def retrieve_subscription(self, subscription_id: str) -> StripeSubscription | None: ...


class SubscriptionsReader:
    """Lists each customer, and retrieves each wanted subscription that the lists lack."""

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
        except TimeoutError:
            raise Retryable("Stripe did not answer in time") from None
        read = SubscriptionsRead(tuple(found), targets.row_version, job.situation.now, targets.customer_ids)
        again_at = job.situation.real_now + bounds.backoff.delay(job.step.attempts)
        return read_outcome(job.step, read, self._catalogue, again_at, read_parts(job.account))

    async def _read(self, targets: ReadTargets) -> list[StripeSubscription]:
        found: dict[str, StripeSubscription] = {}
        for customer_id in targets.customer_ids:
            found |= {one.id: one for one in await self._gateway.list_subscriptions(customer_id)}
        for subscription_id in targets.subscription_ids:
            if subscription_id not in found:
                one = await self._gateway.retrieve_subscription(subscription_id)
                found |= {one.id: one} if one else {}
        return list(found.values())
