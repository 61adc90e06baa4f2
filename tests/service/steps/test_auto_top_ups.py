"""Automatic top-ups from the tick to Stripe and back, through a stateful stand-in (CR-38…CR-40)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import orjson
import pytest

from bursar.billing.account import user_key
from bursar.billing.steps import StepKind
from bursar.handlers.messages import ReceivedMessage, item_of
from bursar.handlers.operations import OPERATIONS, operation_stopped
from bursar.service.gateways.stripe import StripeGateway
from bursar.service.steps.operations import OperationCarrier
from bursar.service.steps.step_crew import StepCrew
from bursar.service.steps.together import Together
from bursar.service.stripe_stand_in import customers
from bursar.service.stripe_stand_in.faults import Fault
from bursar.service.stripe_stand_in.world import Card
from bursar.service.ticks.paging import Sweeping
from bursar.service.web.deleting import deleted
from tests.billing.credits.crediting import DUE, a_credit_row
from tests.billing.kiloclaw.making import CATALOGUE, HOUR
from tests.db.scanning import tables_holding
from tests.service.crediting import balance, hosted
from tests.service.steps.acting import Acting, acting
from tests.service.ticks.test_credit_renewals import row, tick
from tests.stripe.stand_in import StripeStandIn, stripe_stand_in

PAY = "POST /v1/payment_intents"
LOOK = "GET /v1/payment_intents"
CANCEL = "POST /v1/payment_intents/{intent}/cancel"
UNANSWERED = [Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER, Fault.RATE_LIMITED, Fault.ERROR_BEFORE, Fault.ERROR_AFTER]
MAX_ROUNDS = 12
MAIL = "claw_credit_renewal_failed"


@dataclass
class TopUps:
    """Ada's row, short of money on its day, her card at Stripe, and who carries her top-up out."""

    worker: Acting
    stripe: StripeStandIn
    sweeps: Sweeping
    crew: StepCrew

    async def settle(self) -> None:
        """Carry out what is due until nothing is; between two attempts the backoff passes."""
        for _ in range(MAX_ROUNDS):
            for job in await self.crew.claim(8):
                await self.crew.carry_out(job)
            if not await self.worker.fetch("SELECT FROM steps WHERE kind = 'top_up' AND state = 'due'"):
                return
            self.worker.clock.real_now += timedelta(hours=1)
        raise AssertionError("the step does not end")

    async def hear(self) -> None:
        """Stripe's events of Ada arrive, each twice."""
        for event in [event for event in self.stripe.events if event["type"] == "payment_intent.succeeded"] * 2:
            message = ReceivedMessage(event["id"], f"stripe.{event['type']}", user_key("ada"), orjson.dumps(event))
            (outcome,) = await self.worker.decider.decide([item_of(message, user_key("ada"), CATALOGUE)])
            assert outcome.error is None

    def paid_cents(self) -> list[int]:
        return [one["amount_received"] for one in self.stripe.all("payment_intent", status="succeeded")]


@asynccontextmanager
async def short_of_money(database_url: str, card: Card | None = Card.GOOD, dollars: int = 10) -> AsyncIterator[TopUps]:
    async with (
        acting(database_url) as worker,
        stripe_stand_in(now=DUE) as stripe,
        StripeGateway("sk_test_1", api_base=stripe.base_url) as gateway,
    ):
        customer_id = await _customer(stripe, card)
        await hosted(worker, a_credit_row(), dollars, stripe_customer_id=customer_id, auto_top_up=True)
        carrier = OperationCarrier(StepKind.TOP_UP, gateway, OPERATIONS, worker.decider, CATALOGUE)
        together = Together(worker.decider)
        crew = StepCrew(carrier, worker.decider, together, worker.metrics, operation_stopped)
        yield TopUps(worker, stripe, Sweeping(worker.decider, CATALOGUE), crew)
        assert stripe.mismatches == []


async def _customer(stripe: StripeStandIn, card: Card | None) -> str:
    customer_id: str = customers.create(stripe.world, {"email": "ada@example.test"})["id"]
    if card:
        stripe.give_card(customer_id, card)
    return customer_id


async def enabled(worker: Acting) -> bool:
    ((is_on,),) = await worker.fetch("SELECT auto_top_up FROM users WHERE user_id = 'ada'")
    return bool(is_on)


async def test_cr_38_cr_40_a_shortfall_is_charged_deposited_and_renewed(database_url: str) -> None:
    async with short_of_money(database_url) as ada:
        await tick(ada.worker, ada.sweeps, DUE)
        assert await row(ada.worker, "status", "top_up_boundary", "current_period_end") == ("active", DUE, DUE)
        await ada.settle()

        assert ada.paid_cents() == [2_000]
        assert await balance(ada.worker) == 10 + 20 - 25
        assert await row(ada.worker, "status", "top_up_boundary", "current_period_start") == ("active", None, DUE)
        await ada.hear()
        await tick(ada.worker, ada.sweeps, DUE + HOUR)
        assert (await balance(ada.worker), await ada.worker.mails()) == (5, [])
        (payment,) = ada.stripe.all("payment_intent")
        assert payment["metadata"] | {"topUp": ""} == {"type": "credit_topup", "userId": "ada", "topUp": ""}


async def test_cr_40_the_event_may_come_before_the_step_hears_its_answer(database_url: str) -> None:
    async with short_of_money(database_url) as ada:
        await tick(ada.worker, ada.sweeps, DUE)
        ada.stripe.faults.next(PAY, Fault.TIMEOUT_AFTER)
        for job in await ada.crew.claim(1):
            await ada.crew.carry_out(job)
        await ada.hear()
        assert await row(ada.worker, "status", "current_period_start") == ("active", DUE), "renewed at once"
        await ada.settle()

        assert (ada.paid_cents(), await balance(ada.worker)) == ([2_000], 5)


@pytest.mark.parametrize("fault", UNANSWERED)
@pytest.mark.parametrize("call", [PAY, LOOK, "GET /v1/customers/{customer}"])
async def test_cr_38_paid_once_whatever_happens_to_an_answer(database_url: str, call: str, fault: Fault) -> None:
    async with short_of_money(database_url) as ada:
        ada.stripe.faults.next(call, fault)
        await tick(ada.worker, ada.sweeps, DUE)
        await ada.settle()
        await ada.hear()

        assert (ada.paid_cents(), await balance(ada.worker)) == ([2_000], 5)
        assert await row(ada.worker, "status", "current_period_start") == ("active", DUE)


@pytest.mark.parametrize("fault", [None, *UNANSWERED])
@pytest.mark.parametrize("card", [Card.DECLINED, Card.CHALLENGE, Card.FAILS_LATER])
async def test_cr_39_a_decline_or_a_challenge_switches_it_off(
    database_url: str, card: Card, fault: Fault | None
) -> None:
    async with short_of_money(database_url, card) as ada:
        if fault:
            ada.stripe.faults.next(PAY, fault)
            ada.stripe.faults.next(CANCEL, fault)
        await tick(ada.worker, ada.sweeps, DUE)
        await ada.settle()
        await tick(ada.worker, ada.sweeps, DUE + HOUR)

        assert await row(ada.worker, "status", "past_due_since") == ("past_due", DUE)
        assert not await enabled(ada.worker)
        assert [mail for mail, _ in await ada.worker.mails()] == [MAIL]
        assert (ada.paid_cents(), await balance(ada.worker)) == ([], 10)
        assert {one["status"] for one in ada.stripe.all("payment_intent")} == {"canceled"}


async def test_cr_39_without_a_card_it_is_impossible_and_stays_on(database_url: str) -> None:
    async with short_of_money(database_url, None) as ada:
        await tick(ada.worker, ada.sweeps, DUE)
        await ada.settle()
        assert await row(ada.worker, "status") == ("past_due",)
        assert (await enabled(ada.worker), ada.stripe.all("payment_intent")) == (True, [])


async def test_cr_38_one_attempt_for_a_boundary_whatever_comes(database_url: str) -> None:
    async with short_of_money(database_url, Card.DECLINED) as ada:
        await tick(ada.worker, ada.sweeps, DUE)
        await ada.settle()
        await ada.worker.fetch("UPDATE users SET auto_top_up = true")
        await tick(ada.worker, ada.sweeps, DUE + HOUR)
        assert await ada.worker.fetch("SELECT count(*) FROM steps WHERE kind = 'top_up'") == [(1,)]
        assert len(ada.stripe.all("payment_intent")) == 1


async def test_kc_121_a_top_up_leaves_nothing_that_names_its_user_once_they_are_deleted(database_url: str) -> None:
    async with short_of_money(database_url) as ada:
        await tick(ada.worker, ada.sweeps, DUE)
        await ada.settle()
        await ada.worker.fetch("UPDATE kiloclaw_subscriptions SET status = 'canceled'")
        await deleted(ada.worker.decider, "ada", "command:1")
        async with ada.worker.decider.pool.acquire() as connection:
            left = await tables_holding(connection, "user:ada", ":ada:", '"ada"')
        assert left == set()
