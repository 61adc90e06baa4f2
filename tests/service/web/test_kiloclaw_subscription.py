"""Checkout, cancel, reactivate and billing portal over HTTP (KC-20…KC-23, KC-50…KC-54)."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest

from bursar.billing.errors import CallRefused, KeySpent, Retryable
from bursar.billing.stripe.calls import VIEWS, Call, Method
from bursar.service.deciding.decider import Decider
from tests.billing.kiloclaw.making import NOW, subscription_json
from tests.db.deciding import a_subscription_item
from tests.service.web.serving import Served, served

ADA = "/v1/users/ada/kiloclaw"
CHECKOUT = {
    "plan": "standard",
    "success_url": "https://app.example.test/done?session={CHECKOUT_SESSION_ID}",
    "cancel_url": "https://app.example.test/claw",
}
PORTAL = {"return_url": "https://app.example.test/claw"}
SUB = {"id": "sub_ada", "customer": "cus_ada"}


@dataclass
class ScriptedStripe:
    """Answers each method with what was laid out for it, and remembers the calls with their keys."""

    answers: dict[Method, Any] = field(default_factory=dict)
    calls: list[tuple[Call, str]] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    hold: asyncio.Event | None = None

    async def call(self, call: Call, idempotency_key: str) -> Mapping[str, Any]:
        self.calls.append((call, idempotency_key))
        self.asked.set()
        if self.hold:
            await self.hold.wait()
        answer = self.answers[call.method]
        answer = answer.pop(0) if isinstance(answer, list) else answer
        if isinstance(answer, Exception):
            raise answer
        return VIEWS[call.method].model_validate(answer).model_dump(mode="json")

    @property
    def methods(self) -> list[Method]:
        return [call.method for call, _ in self.calls]

    def called(self, method: Method) -> Call:
        return next(call for call, _ in self.calls if call.method == method)


@pytest.fixture
def scripted() -> ScriptedStripe:
    return ScriptedStripe(
        {
            Method.LIST_CUSTOMERS: {"data": []},
            Method.CREATE_CUSTOMER: {"id": "cus_new"},
            Method.LIST_CHECKOUT_SESSIONS: {"data": []},
            Method.LIST_SUBSCRIPTIONS: {"data": []},
            Method.CREATE_CHECKOUT_SESSION: {"id": "cs_1", "url": "https://checkout.example.test/cs_1"},
            Method.RETRIEVE_SUBSCRIPTION: subscription_json(**SUB),
            Method.UPDATE_SUBSCRIPTION: subscription_json(**SUB, cancel_at_period_end=True),
            Method.LIST_PORTAL_CONFIGURATIONS: {"data": []},
            Method.CREATE_PORTAL_CONFIGURATION: {"id": "bpc_1"},
            Method.CREATE_PORTAL_SESSION: {"id": "bps_1", "url": "https://billing.example.test/bps_1"},
        }
    )


@pytest.fixture
async def web(decider: Decider, scripted: ScriptedStripe) -> AsyncIterator[Served]:
    async with served(decider, stripe_calls=scripted) as running:
        yield running


@pytest.fixture
async def subscribed(web: Served) -> Served:
    """Ada has an active row, `sub_ada` of `cus_ada`."""
    await web.decider.decide([a_subscription_item("evt_created")])
    return web


async def test_kc_21_a_checkout_answers_with_the_page(web: Served, scripted: ScriptedStripe) -> None:
    await web.put("/v1/users/ada", {"email": "ada@example.test"})
    answer = await web.post(f"{ADA}/checkout", {**CHECKOUT, "referral": "ref-7"})

    assert (answer.status_code, answer.json()) == (
        200,
        {"url": "https://checkout.example.test/cs_1", "session_id": "cs_1"},
    )
    params = scripted.called(Method.CREATE_CHECKOUT_SESSION).params
    assert params["success_url"] == CHECKOUT["success_url"]
    assert params["client_reference_id"] == "ref-7"


async def test_kc_20_the_customer_is_kept_and_used_again(
    web: Served, scripted: ScriptedStripe, connection: asyncpg.Connection
) -> None:
    for _ in range(2):
        assert (await web.post(f"{ADA}/checkout", CHECKOUT)).status_code == 200
    assert scripted.methods.count(Method.CREATE_CUSTOMER) == 1
    assert await connection.fetchval("SELECT stripe_customer_id FROM users WHERE user_id = 'ada'") == "cus_new"


async def test_kc_20_a_subscribed_user_is_refused(subscribed: Served, scripted: ScriptedStripe) -> None:
    refused = await subscribed.post(f"{ADA}/checkout", CHECKOUT)
    assert (refused.status_code, refused.json()["code"]) == (400, "already_subscribed")
    assert scripted.calls == []


async def test_kc_20_a_subscription_that_only_stripe_knows_refuses_and_is_read(
    web: Served, scripted: ScriptedStripe, connection: asyncpg.Connection
) -> None:
    scripted.answers[Method.LIST_SUBSCRIPTIONS] = {"data": [subscription_json()]}
    refused = await web.post(f"{ADA}/checkout", CHECKOUT)

    assert (refused.status_code, refused.json()["code"]) == (400, "already_subscribed")
    assert await connection.fetchval("SELECT state FROM steps WHERE kind = 'read_subscriptions'") == "due"


async def test_kc_23_a_second_checkout_at_the_same_time_is_refused(web: Served, scripted: ScriptedStripe) -> None:
    scripted.hold = asyncio.Event()
    first = asyncio.create_task(web.post(f"{ADA}/checkout", CHECKOUT))
    await asyncio.wait_for(scripted.asked.wait(), 10)
    second = await web.post(f"{ADA}/checkout", CHECKOUT)
    scripted.hold.set()

    assert (second.status_code, second.json()["code"]) == (409, "operation_in_progress")
    assert (await first).status_code == 200
    assert scripted.methods.count(Method.CREATE_CHECKOUT_SESSION) == 1


async def test_kc_23_the_same_request_again_has_the_same_answer(web: Served, scripted: ScriptedStripe) -> None:
    answers = [await web.post(f"{ADA}/checkout", CHECKOUT, key="k1") for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert scripted.methods.count(Method.CREATE_CHECKOUT_SESSION) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"plan": "trial"},
        {"success_url": "javascript:alert(1)"},
        {"success_url": "ftp://app.example.test/"},
        {"cancel_url": "https:///nowhere"},
        {"cancel_url": "https://app.example.test/a b"},
        {"cancel_url": "https://app.example.test/" + "a" * 2000},
        {"referral": "r" * 201},
        {"price": "price_mine"},
    ],
)
async def test_kc_21_a_checkout_that_is_not_valid_is_refused(
    web: Served, scripted: ScriptedStripe, wrong: dict[str, str]
) -> None:
    refused = await web.post(f"{ADA}/checkout", CHECKOUT | wrong)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert scripted.calls == []


async def test_a_checkout_that_stripe_refuses_is_told_without_its_text(web: Served, scripted: ScriptedStripe) -> None:
    scripted.answers[Method.CREATE_CHECKOUT_SESSION] = CallRefused("resource_missing", "secret of Stripe")
    refused = await web.post(f"{ADA}/checkout", CHECKOUT)
    assert (refused.status_code, refused.json()["code"]) == (502, "stripe_refused")
    assert "secret" not in refused.text


async def test_kc_50_a_subscription_is_canceled_at_stripe_and_here(
    subscribed: Served, scripted: ScriptedStripe, connection: asyncpg.Connection
) -> None:
    answer = await subscribed.post(f"{ADA}/cancel")

    ends_at = subscription_json()["items"]["data"][0]["current_period_end"]
    assert answer.status_code == 200, answer.text
    assert answer.json()["cancel_at_period_end"]
    assert ends_at > NOW.timestamp()
    assert scripted.methods == [Method.RETRIEVE_SUBSCRIPTION, Method.UPDATE_SUBSCRIPTION]
    assert await connection.fetchval("SELECT cancel_at_period_end FROM kiloclaw_subscriptions")
    status = (await subscribed.get(f"{ADA}/status")).json()
    assert status["hasAccess"], "until the period ends (KC-51)"
    again = await subscribed.post(f"{ADA}/cancel")
    assert (again.status_code, again.json()["code"]) == (400, "already_canceling")


async def test_kc_50_without_a_subscription_there_is_nothing_to_cancel(web: Served) -> None:
    refused = await web.post(f"{ADA}/cancel")
    assert (refused.status_code, refused.json()["code"]) == (400, "no_subscription")


async def test_kc_50_a_failure_leaves_the_row(
    subscribed: Served, scripted: ScriptedStripe, connection: asyncpg.Connection
) -> None:
    scripted.answers[Method.UPDATE_SUBSCRIPTION] = CallRefused("parameter_invalid", "")
    refused = await subscribed.post(f"{ADA}/cancel")
    assert (refused.status_code, refused.json()["code"]) == (502, "stripe_refused")
    assert not await connection.fetchval("SELECT cancel_at_period_end FROM kiloclaw_subscriptions")


async def test_kc_52_a_cancellation_is_taken_back(
    subscribed: Served, scripted: ScriptedStripe, connection: asyncpg.Connection
) -> None:
    await subscribed.post(f"{ADA}/cancel")
    scripted.answers[Method.RETRIEVE_SUBSCRIPTION] = subscription_json(**SUB, cancel_at_period_end=True)
    scripted.answers[Method.UPDATE_SUBSCRIPTION] = subscription_json(**SUB)
    answer = await subscribed.post(f"{ADA}/reactivate")

    assert (answer.status_code, answer.json()) == (200, {"cancel_at_period_end": False})
    assert not await connection.fetchval("SELECT cancel_at_period_end FROM kiloclaw_subscriptions")
    again = await subscribed.post(f"{ADA}/reactivate")
    assert (again.status_code, again.json()["code"]) == (400, "not_canceling")


async def test_kc_4_the_history_says_who_canceled(subscribed: Served) -> None:
    await subscribed.post(f"{ADA}/cancel")
    newest = (await subscribed.get("/v1/users/ada/history")).json()["entries"][0]
    assert newest["reason"] == "canceled by the user"


async def test_kc_54_the_billing_portal_is_opened(subscribed: Served, scripted: ScriptedStripe) -> None:
    answer = await subscribed.post(f"{ADA}/billing-portal", PORTAL)

    assert (answer.status_code, answer.json()) == (200, {"url": "https://billing.example.test/bps_1"})
    assert scripted.called(Method.CREATE_PORTAL_SESSION).params["customer"] == "cus_ada"


async def test_kc_54_without_a_stripe_id_there_is_no_portal(web: Served) -> None:
    await web.post(f"{ADA}/trial")
    refused = await web.post(f"{ADA}/billing-portal", PORTAL)
    assert (refused.status_code, refused.json()["code"]) == (400, "billing_portal_unavailable")


async def test_kc_54_a_spent_key_is_followed_by_a_new_look(subscribed: Served, scripted: ScriptedStripe) -> None:
    scripted.answers[Method.CREATE_PORTAL_CONFIGURATION] = [KeySpent("500"), {"id": "bpc_1"}]
    answer = await subscribed.post(f"{ADA}/billing-portal", PORTAL)

    keys = [key for call, key in scripted.calls if call.method == Method.CREATE_PORTAL_CONFIGURATION]
    assert answer.status_code == 200
    assert keys == ["portal-configuration:kiloclaw:1", "portal-configuration:kiloclaw:2"]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(CallRefused("x", ""), 502, "stripe_refused"), (Retryable("no answer"), 503, "stripe_unavailable")],
)
async def test_kc_54_stripe_fails(
    subscribed: Served, scripted: ScriptedStripe, error: Exception, status: int, code: str
) -> None:
    scripted.answers[Method.CREATE_PORTAL_SESSION] = error
    answer = await subscribed.post(f"{ADA}/billing-portal", PORTAL)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_the_bearer_is_asked_for(web: Served) -> None:
    for route, body in (("checkout", CHECKOUT), ("cancel", {}), ("reactivate", {}), ("billing-portal", PORTAL)):
        assert (await web.client.post(f"{ADA}/{route}", json=body)).status_code == 401
