"""A top-up that is heard of after its user was deleted goes back, once, and nothing tells whose it was (KC-121)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from bursar.billing.account import user_key
from bursar.db.items import MessageCopy, Outcome
from bursar.handlers.messages import ReceivedMessage, item_of
from bursar.service.gateways.stripe import StripeGateway
from bursar.service.steps.late_top_ups import TopUpReturner
from bursar.service.steps.step_crew import StepCrew
from bursar.service.steps.together import Together
from bursar.service.stripe_stand_in import customers, invoices, payments
from bursar.service.stripe_stand_in.faults import Fault
from bursar.service.stripe_stand_in.world import Card
from bursar.service.web.deleting import deleted, known_again
from tests.billing.credits.crediting import DUE
from tests.billing.kiloclaw.making import CATALOGUE, DAY, a_trial
from tests.db.deciding import an_item
from tests.db.scanning import tables_holding
from tests.service.crediting import balance
from tests.service.steps.acting import Acting, acting, having
from tests.stripe.stand_in import StripeStandIn, stripe_stand_in

USER, REFUND = "u-5be1", "POST /v1/refunds"
MAX_ROUNDS = 6


@dataclass
class Leaving:
    """A user who topped up 20 dollars at Stripe, and who refunds what is heard of too late."""

    worker: Acting
    stripe: StripeStandIn
    crew: StepCrew

    async def hears(self, event_id: str = "evt_1", **changes: Any) -> Outcome:
        event = {"id": event_id, "type": "payment_intent.succeeded", "data": {"object": self.payment | changes}}
        message = ReceivedMessage(event_id, "stripe.payment_intent.succeeded", user_key(USER), orjson.dumps(event))
        (outcome,) = await self.worker.decider.decide([item_of(message, user_key(USER), CATALOGUE)])
        assert outcome.error is None
        return outcome

    async def settle(self) -> None:
        for _ in range(MAX_ROUNDS):
            for job in await self.crew.claim(8):
                await self.crew.carry_out(job)
            self.worker.clock.real_now += DAY

    @property
    def payment(self) -> Any:
        (intent,) = self.stripe.all("payment_intent")
        return intent

    def refunded_cents(self) -> list[int]:
        return [one["amount"] for one in self.stripe.all("refund")]

    async def states(self) -> list[str]:
        return [state for (state,) in await self.worker.fetch("SELECT state FROM steps WHERE kind = 'return_top_up'")]

    async def named_in(self) -> set[str]:
        async with self.worker.decider.pool.acquire() as connection:
            return await tables_holding(connection, user_key(USER), f'"{USER}"')


@asynccontextmanager
async def leaving(database_url: str) -> AsyncIterator[Leaving]:
    async with (
        acting(database_url) as worker,
        stripe_stand_in(now=DUE) as stripe,
        StripeGateway("sk_test_1", api_base=stripe.base_url) as gateway,
    ):
        customer_id: str = customers.create(stripe.world, {"email": "ada@example.test"})["id"]
        stripe.give_card(customer_id, Card.GOOD)
        intent = payments.intended(
            stripe.world,
            customer_id,
            2_000,
            stripe.all("payment_method")[0]["id"],
            {"type": "credit_topup", "userId": USER},
        )
        payments.attempt(stripe.world, intent, on_session=True)
        await worker.decider.decide([having(a_trial(), USER)])
        returner = TopUpReturner(gateway, worker.decider)
        yield Leaving(worker, stripe, StepCrew(returner, worker.decider, Together(worker.decider), worker.metrics))
        assert stripe.mismatches == []


async def test_kc_121_a_top_up_heard_of_after_the_deletion_is_refunded_once(database_url: str) -> None:
    async with leaving(database_url) as ada:
        await deleted(ada.worker.decider, USER, "command:1")
        outcome = await ada.hears()
        assert outcome.decision
        assert outcome.decision.counts == {"deleted_user": 1, "late_top_up": 1}
        await ada.settle()
        for event_id in ("evt_1", "evt_2"):
            await ada.hears(event_id)
        await ada.settle()

        assert (ada.refunded_cents(), await ada.states()) == ([2_000], ["done"])
        assert await ada.worker.fetch("SELECT FROM credit_transactions") == []
        assert await ada.named_in() == set()


async def test_kc_121_what_was_credited_before_the_deletion_does_not_go_back(database_url: str) -> None:
    async with leaving(database_url) as ada:
        await ada.hears()
        await deleted(ada.worker.decider, USER, "command:1")
        await ada.hears("evt_2")
        await ada.settle()
        assert (ada.refunded_cents(), await ada.states()) == ([], ["dropped"])


async def test_kc_121_a_payment_that_is_no_top_up_is_none_of_our_business(database_url: str) -> None:
    async with leaving(database_url) as ada:
        await deleted(ada.worker.decider, USER, "command:1")
        await ada.hears(metadata={"userId": USER})
        assert await ada.states() == []


@pytest.mark.parametrize("fault", [Fault.TIMEOUT_AFTER, Fault.ERROR_BEFORE, Fault.ERROR_AFTER, Fault.RATE_LIMITED])
async def test_ms_11_refunded_once_whatever_happens_to_an_answer(database_url: str, fault: Fault) -> None:
    async with leaving(database_url) as ada:
        await deleted(ada.worker.decider, USER, "command:1")
        ada.stripe.faults.next(REFUND, fault)
        await ada.hears()
        await ada.settle()
        assert (ada.refunded_cents(), await ada.states()) == ([2_000], ["done"])


async def test_kc_121_one_that_an_invoice_billed_is_refunded_by_what_paid_it(database_url: str) -> None:
    async with leaving(database_url) as ada:
        world, metadata = ada.stripe.world, {"type": "credit_topup", "userId": USER}
        (customer,) = ada.stripe.all("customer")
        invoice = invoices.create(world, {"customer": customer["id"], "metadata": metadata})
        invoices.create_item(world, {"customer": customer["id"], "invoice": invoice["id"], "amount": 5_000})
        invoices.pay(world, {}, invoice["id"])
        await deleted(ada.worker.decider, USER, "command:1")
        event = {"id": "evt_1", "type": "invoice.paid", "data": {"object": invoice}}
        message = ReceivedMessage("evt_1", "stripe.invoice.paid", user_key(USER), orjson.dumps(event))
        await ada.worker.decider.decide([item_of(message, user_key(USER), CATALOGUE)])
        await ada.settle()

        assert (ada.refunded_cents(), await ada.states()) == ([5_000], ["done"])


async def test_kc_121_one_that_stripe_refuses_is_an_operators(database_url: str) -> None:
    async with leaving(database_url) as ada:
        await deleted(ada.worker.decider, USER, "command:1")
        await ada.hears()
        await ada.worker.fetch("UPDATE steps SET payload = '{\"payment_id\": \"in_1\"}' WHERE kind = 'return_top_up'")
        await ada.settle()
        assert await ada.states() == ["failed"]


async def test_kc_121_a_top_up_that_waits_for_its_retry_when_its_user_is_deleted_goes_back(database_url: str) -> None:
    def failing(_: object) -> None:
        raise ZeroDivisionError

    async with leaving(database_url) as ada:
        event = {"id": "evt_1", "type": "payment_intent.succeeded", "data": {"object": ada.payment}}
        copy = MessageCopy("stripe.payment_intent.succeeded", {}, orjson.dumps(event))
        await ada.worker.decider.decide([an_item("evt_1", USER, failing, copy=copy)])  # type: ignore[arg-type]
        await deleted(ada.worker.decider, USER, "command:1")
        await ada.settle()
        assert (ada.refunded_cents(), await ada.named_in()) == ([2_000], set())


async def test_kc_121_who_comes_back_before_it_is_heard_of_has_it(database_url: str) -> None:
    async with leaving(database_url) as ada:
        await deleted(ada.worker.decider, USER, "command:1")
        await known_again(ada.worker.decider, USER, None)
        await ada.hears()
        await ada.settle()
        assert (ada.refunded_cents(), await balance(ada.worker, USER)) == ([], 20)
