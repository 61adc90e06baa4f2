"""Buying credits over HTTP (CR-10)."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from bursar.billing.stripe.calls import Method
from bursar.service.deciding.decider import Decider
from tests.service.web.serving import Served, served
from tests.service.web.test_kiloclaw_subscription import ScriptedStripe

CHECKOUT = "/v1/users/ada/credits/checkout"


@pytest.fixture
def scripted() -> ScriptedStripe:
    return ScriptedStripe(
        {
            Method.CREATE_CUSTOMER: {"id": "cus_new"},
            Method.CREATE_CHECKOUT_SESSION: {"id": "cs_1", "url": "https://checkout.example.test/cs_1"},
        }
    )


@pytest.fixture
async def web(decider: Decider, scripted: ScriptedStripe) -> AsyncIterator[Served]:
    async with served(decider, stripe_calls=scripted) as running:
        yield running


async def test_cr_10_a_checkout_sells_an_offered_amount_and_its_payment_says_whose_it_is(
    web: Served, scripted: ScriptedStripe, connection: asyncpg.Connection
) -> None:
    answer = await web.post(CHECKOUT, {"amount_cents": 2000}, key="top-up-1")
    again = await web.post(CHECKOUT, {"amount_cents": 2000}, key="top-up-1")

    assert answer.status_code == 200, answer.text
    assert answer.json() == {"url": "https://checkout.example.test/cs_1", "session_id": "cs_1", "amount_cents": 2000}
    assert again.json() == answer.json()
    assert scripted.methods == [Method.CREATE_CUSTOMER, Method.CREATE_CHECKOUT_SESSION]
    params = scripted.called(Method.CREATE_CHECKOUT_SESSION).params
    metadata = {"type": "credit_topup", "userId": "ada"}
    assert (params["mode"], params["customer"]) == ("payment", "cus_new")
    assert params["line_items"][0]["price_data"]["unit_amount"] == 2000
    assert params["payment_intent_data"] == {"metadata": metadata, "setup_future_usage": "off_session"}
    assert params["metadata"] == metadata
    assert params["success_url"] == "https://app.example.test/claw"
    assert await connection.fetchval("SELECT stripe_customer_id FROM users") == "cus_new"


async def test_cr_10_without_an_amount_it_is_fifty_dollars(web: Served) -> None:
    assert (await web.post(CHECKOUT)).json()["amount_cents"] == 5000


@pytest.mark.parametrize("cents", [1, 2001, -2000])
async def test_cr_10_other_amounts_are_not_sold(web: Served, scripted: ScriptedStripe, cents: int) -> None:
    answer = await web.post(CHECKOUT, {"amount_cents": cents})
    assert (answer.status_code, answer.json()["code"]) == (400, "amount_not_offered")
    assert scripted.calls == []
