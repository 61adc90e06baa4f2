"""The whole way of a double purchase: enrolled in credits, bought at Stripe too, and given back there (CR-25)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from bursar.billing.account import user_key
from bursar.billing.credits.enrolment import Enrolment
from bursar.db.items import Item
from bursar.handlers.credits import enrolment_item
from bursar.handlers.messages import HANDLED_STRIPE_TYPES, ReceivedMessage, item_of
from bursar.service.gateways.stripe import StripeGateway
from bursar.service.steps.endings import SubscriptionEnder
from bursar.service.steps.invoices import InvoiceFinder
from bursar.service.steps.reads import SubscriptionsReader
from bursar.service.steps.step_crew import StepCrew
from bursar.service.steps.together import Together
from bursar.service.stripe_stand_in import customers
from bursar.service.stripe_stand_in.world import COMMIT, Card
from tests.billing.kiloclaw.making import CATALOGUE, NOW, a_trial
from tests.service.crediting import balance, charges, hosted
from tests.service.steps.acting import Acting, acting
from tests.stripe.stand_in import StripeStandIn, stripe_stand_in

MAX_ROUNDS = 12


@dataclass
class Buyer:
    """Ada, a customer at Stripe with a good card and a hundred dollars of credits."""

    worker: Acting
    stripe: StripeStandIn
    crews: tuple[StepCrew, ...]
    customer_id: str
    heard: int = 0

    async def enrolls(self) -> None:
        await self._decided(enrolment_item("ada", Enrolment("commit", "inst-ada", "command:1"), CATALOGUE))

    def buys(self, funding: str) -> str:
        metadata = {"type": "kiloclaw", "userId": "ada", "plan": "commit", "funding": funding}
        made = self.stripe.subscribe(self.customer_id, COMMIT, metadata=metadata)
        return str(made["id"])

    async def settle(self) -> None:
        """Stripe's events come and the steps are carried out, until nothing follows."""
        for _ in range(MAX_ROUNDS):
            new = self.stripe.events[self.heard :]
            self.heard += len(new)
            for event in new:
                if event["type"] in HANDLED_STRIPE_TYPES:
                    await self._decided(told(event))
            jobs = [(crew, job) for crew in self.crews for job in await crew.claim(8)]
            for crew, job in jobs:
                await crew.carry_out(job)
            if not new and not jobs:
                return
        raise AssertionError("it does not come to rest")

    async def _decided(self, item: Item) -> None:
        (outcome,) = await self.worker.decider.decide([item])
        assert outcome.error is None

    async def row(self) -> tuple[Any, ...]:
        (found,) = await self.worker.fetch(
            "SELECT plan, status, payment_source, stripe_subscription_id FROM kiloclaw_subscriptions"
        )
        return found


def told(event: dict[str, Any]) -> Item:
    message = ReceivedMessage(event["id"], f"stripe.{event['type']}", user_key("ada"), orjson.dumps(event))
    return item_of(message, user_key("ada"), CATALOGUE)


@asynccontextmanager
async def buying(database_url: str) -> AsyncIterator[Buyer]:
    async with (
        acting(database_url) as worker,
        stripe_stand_in(now=NOW) as stripe,
        StripeGateway("sk_test_1", api_base=stripe.base_url) as gateway,
    ):
        customer_id = customers.create(stripe.world, {"email": "ada@example.test"})["id"]
        stripe.give_card(customer_id, Card.GOOD)
        works = (
            SubscriptionsReader(gateway, CATALOGUE),
            SubscriptionEnder(gateway, worker.decider),
            InvoiceFinder(gateway, worker.decider),
        )
        together = Together(worker.decider)
        crews = tuple(StepCrew(work, worker.decider, together, worker.metrics) for work in works)
        await hosted(worker, a_trial(), 100, stripe_customer_id=customer_id)
        yield Buyer(worker, stripe, crews, customer_id)


@pytest.mark.parametrize("funding", ["direct", "credits"])
async def test_cr_25_what_is_bought_at_stripe_beside_an_enrolment_ends_and_is_refunded(
    database_url: str, funding: str
) -> None:
    async with buying(database_url) as ada:
        await ada.enrolls()
        subscription_id = ada.buys(funding)
        await ada.settle()

        assert ada.stripe.subscription(subscription_id)["status"] == "canceled"
        (charge,) = ada.stripe.all("charge")
        assert charge["amount_refunded"] == charge["amount"] > 0
        assert await ada.row() == ("commit", "active", "credits", None)
        assert (await charges(ada.worker), await balance(ada.worker)) == ([54], 46)
        pairs = await ada.worker.fetch(
            "SELECT sum(amount_microdollars) FROM credit_transactions WHERE kind LIKE 'settlement%' GROUP BY cause"
        )
        assert pairs == ([(0,), (0,)] if funding == "credits" else [])
        assert await ada.worker.fetch("SELECT key FROM steps WHERE state <> 'done'") == []
        assert await ada.worker.fetch("SELECT event_id FROM early_events") == []
