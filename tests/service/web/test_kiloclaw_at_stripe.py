"""Checkout, cancel and reactivate against a stateful stand-in for Stripe: what the row and Stripe say in the end."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from bursar.billing.calendar import add_months
from bursar.billing.steps import StepKind
from bursar.billing.values import replace
from bursar.handlers.messages import item_of
from bursar.handlers.operations import OPERATIONS
from bursar.service.deciding.decider import Decider
from bursar.service.gateways.stripe import Priority, StripeGateway
from bursar.service.steps.operations import OperationCarrier
from bursar.service.steps.reads import SubscriptionsReader
from bursar.service.steps.step_crew import StepCrew
from bursar.service.steps.together import Together
from bursar.service.stripe_stand_in.faults import Fault
from bursar.service.stripe_stand_in.world import Card
from tests.billing.kiloclaw.making import CATALOGUE, DAY, HOUR, NOW
from tests.db.deciding import StandingClock
from tests.service.web.serving import SECRET, Served, served
from tests.stripe.stand_in import StripeStandIn, stripe_stand_in

ADA = "/v1/users/ada/kiloclaw"
MAX_ROUNDS = 20
OPEN_PAGE = "POST /v1/checkout/sessions"
URLS = {"success_url": "https://app.example.test/done", "cancel_url": "https://app.example.test/claw"}


@dataclass
class Selling:
    """The service's web, Stripe, and what Ada does."""

    web: Served
    stripe: StripeStandIn
    crews: tuple[StepCrew, ...]

    async def checkout(self, plan: str = "standard", key: str | None = None) -> httpx.Response:
        return await self.web.post(f"{ADA}/checkout", {"plan": plan, **URLS}, key)

    async def subscribe(self, plan: str = "standard") -> str:
        """Ada checks out, pays, and Stripe tells; the subscription's id."""
        opened = await self.checkout(plan)
        assert opened.status_code == 200, opened.text
        paid = await self.stripe.customer_pays(opened.json()["session_id"])
        await self.hear()
        subscription_id: str = paid["subscription"]
        return subscription_id

    async def hear(self) -> None:
        """Stripe's webhooks arrive and are decided, and workers do what follows, until nothing does any more."""
        for _ in range(MAX_ROUNDS):
            heard = await self.stripe.deliver_to(self._post)
            messages = list(self.web.publisher.messages)
            self.web.publisher.messages.clear()
            outcomes = await self.web.decider.decide([item_of(one, one.account, CATALOGUE) for one in messages])
            assert [outcome.error for outcome in outcomes if outcome.error] == []
            if not heard + await self._work():
                return
        raise AssertionError("it does not come to rest")

    async def _work(self) -> int:
        jobs = [(crew, job) for crew in self.crews for job in await crew.claim(16)]
        for crew, job in jobs:
            await crew.carry_out(job)
        return len(jobs)

    async def _post(self, body: bytes, headers: dict[str, str]) -> int:
        return (await self.web.client.post("/webhooks/stripe", content=body, headers=headers)).status_code

    async def command(self, name: str) -> httpx.Response:
        """A command, and then what Stripe tells of it."""
        answer = await self.web.post(f"{ADA}/{name}")
        await self.hear()
        return answer


@pytest.fixture
async def selling(decider: Decider) -> AsyncIterator[Selling]:
    async with (
        stripe_stand_in(now=NOW, webhook_secret=SECRET) as stripe,
        StripeGateway("sk_test_1", api_base=stripe.base_url) as gateway,
        served(decider, stripe_calls=gateway.at(Priority.PAYMENT)) as web,
    ):
        await web.put("/v1/users/ada", {"email": "ada@example.test", "name": "Ada"})
        yield Selling(web, stripe, tuple(crews(web, gateway)))


def crews(web: Served, gateway: StripeGateway) -> Iterator[StepCrew]:
    """Who does what the decisions ask of Stripe."""
    decider, together = web.decider, Together(web.decider)
    yield StepCrew(SubscriptionsReader(gateway, CATALOGUE), decider, together, web.metrics)
    for kind in (StepKind.OPERATION, StepKind.KEEP_SCHEDULE):
        carrier = OperationCarrier(kind, gateway, OPERATIONS, decider, CATALOGUE)
        yield StepCrew(carrier, decider, together, web.metrics)


async def row(connection: asyncpg.Connection) -> dict[str, Any]:
    return dict(await connection.fetchrow("SELECT * FROM kiloclaw_subscriptions WHERE user_id = 'ada'"))


async def test_kc_20_from_checkout_to_an_active_row(selling: Selling, connection: asyncpg.Connection) -> None:
    subscription_id = await selling.subscribe()
    active = await row(connection)

    assert (active["plan"], active["status"], active["payment_source"]) == ("standard", "active", "stripe")
    assert active["stripe_subscription_id"] == subscription_id
    assert selling.stripe.subscription(subscription_id)["metadata"] == {
        "type": "kiloclaw",
        "userId": "ada",
        "plan": "standard",
        "funding": "direct",
    }
    assert (await selling.web.get(f"{ADA}/status")).json()["hasAccess"]
    assert (await selling.checkout()).json()["code"] == "already_subscribed"


async def test_kc_20_one_that_was_just_paid_for_is_seen_before_its_webhook(selling: Selling) -> None:
    opened = (await selling.checkout()).json()
    await selling.stripe.customer_pays(opened["session_id"])
    refused = await selling.checkout("commit")
    assert (refused.status_code, refused.json()["code"]) == (400, "already_subscribed")


async def test_kc_20_the_customer_is_created_once(selling: Selling, connection: asyncpg.Connection) -> None:
    for _ in range(3):
        assert (await selling.checkout()).status_code == 200
    [customer] = selling.stripe.all("customer")
    assert (customer["email"], customer["metadata"]) == ("ada@example.test", {"userId": "ada"})
    assert await connection.fetchval("SELECT stripe_customer_id FROM users") == customer["id"]


async def test_kc_22_only_the_newest_page_is_open(selling: Selling) -> None:
    pages = [(await selling.checkout()).json()["session_id"] for _ in range(2)]
    standing = [selling.stripe.one("checkout.session", page)["status"] for page in pages]
    assert standing == ["expired", "open"]


@pytest.mark.parametrize(
    "ahead", [30 * DAY, 48 * HOUR + timedelta(minutes=15), 48 * HOUR, 47 * HOUR, timedelta(seconds=5)]
)
async def test_kc_21_nothing_is_charged_before_the_billing_start(selling: Selling, ahead: timedelta) -> None:
    prices = CATALOGUE.prices.model_copy(update={"billing_starts_at": NOW + ahead})
    state = selling.web.app.state
    state.web = replace(state.web, catalogue=CATALOGUE.model_copy(update={"prices": prices}))
    subscription = selling.stripe.subscription(await selling.subscribe())

    assert subscription["status"] == "trialing"
    assert subscription["trial_end"] >= (NOW + ahead).timestamp()
    assert subscription["trial_end"] < (NOW + ahead + DAY).timestamp()


@pytest.mark.parametrize("fault", list(Fault)[:6])
async def test_kc_23_a_page_is_opened_once_whatever_happens_to_the_answer(selling: Selling, fault: Fault) -> None:
    selling.stripe.faults.next(OPEN_PAGE, fault)
    answer = await selling.checkout(key="k1")

    assert answer.status_code == 200, answer.text
    [opened] = selling.stripe.all("checkout.session", status="open")
    assert answer.json()["session_id"] == opened["id"]


async def test_kc_50_canceled_at_stripe_and_here_until_the_period_ends(
    selling: Selling, connection: asyncpg.Connection
) -> None:
    subscription_id = await selling.subscribe()
    answer = await selling.command("cancel")

    assert answer.status_code == 200, answer.text
    assert selling.stripe.subscription(subscription_id)["cancel_at_period_end"]
    canceling = await row(connection)
    assert (canceling["status"], canceling["cancel_at_period_end"]) == ("active", True)
    assert answer.json()["ends_at"] == canceling["current_period_end"].isoformat()


async def test_kc_52_a_commit_plan_loses_its_schedule_and_has_it_again(
    selling: Selling, connection: asyncpg.Connection
) -> None:
    subscription_id = await selling.subscribe("commit")
    first = selling.stripe.subscription(subscription_id)["schedule"]
    assert (await row(connection))["stripe_schedule_id"] == first

    assert (await selling.command("cancel")).status_code == 200
    canceled = await row(connection)
    assert selling.stripe.one("subscription_schedule", first)["status"] == "released"
    assert selling.stripe.subscription(subscription_id)["cancel_at_period_end"]
    assert (canceled["cancel_at_period_end"], canceled["stripe_schedule_id"]) == (True, None)

    assert (await selling.command("reactivate")).status_code == 200
    again = await row(connection)
    assert not again["cancel_at_period_end"]
    assert (again["scheduled_plan"], again["scheduled_by"]) == ("standard", "auto")
    assert again["commit_ends_at"] == add_months(NOW, 6)
    assert again["stripe_schedule_id"] == selling.stripe.subscription(subscription_id)["schedule"] != first


async def test_kc_52_without_its_schedule_the_cancellation_stays(
    selling: Selling, connection: asyncpg.Connection
) -> None:
    subscription_id = await selling.subscribe("commit")
    await selling.command("cancel")
    del selling.stripe.world.tables["price"]["price_standard"]  # so that no schedule can lead to it
    answer = await selling.command("reactivate")

    assert (answer.status_code, answer.json()["code"]) == (502, "stripe_refused")
    standing = selling.stripe.subscription(subscription_id)
    assert (standing["cancel_at_period_end"], standing["schedule"]) == (True, None)
    assert (await row(connection))["cancel_at_period_end"]


async def test_kc_50_what_the_request_cannot_finish_workers_do(
    selling: Selling, connection: asyncpg.Connection, clock: StandingClock
) -> None:
    subscription_id = await selling.subscribe()
    state = selling.web.app.state
    state.web = replace(state.web, operation_budget_seconds=0.3)
    selling.stripe.faults.next("POST /v1/subscriptions/{subscription_exposed_id}", Fault.HELD)
    late = await selling.web.post(f"{ADA}/cancel", key="k1")
    selling.stripe.faults.let_go()

    assert (late.status_code, late.json()["code"]) == (503, "stripe_unavailable")
    clock.real_now += timedelta(minutes=5)
    await selling.hear()
    assert selling.stripe.subscription(subscription_id)["cancel_at_period_end"]
    assert (await row(connection))["cancel_at_period_end"]
    told = await selling.web.post(f"{ADA}/cancel", key="k1")
    assert (told.status_code, told.json()["cancel_at_period_end"]) == (200, True)


async def test_kc_54_the_portal_has_one_configuration(selling: Selling) -> None:
    await selling.subscribe()
    for _ in range(2):
        opened = await selling.web.post(f"{ADA}/billing-portal", {"return_url": URLS["cancel_url"]})
        assert opened.status_code == 200, opened.text
    [configuration] = selling.stripe.all("billing_portal.configuration")
    assert not configuration["features"]["subscription_cancel"]["enabled"]


async def test_kc_20_a_declined_card_leaves_the_user_free(selling: Selling) -> None:
    opened = (await selling.checkout()).json()
    with pytest.raises(Exception, match=opened["session_id"]):
        await selling.stripe.customer_pays(opened["session_id"], Card.DECLINED)
    assert (await selling.checkout()).status_code == 200
