"""Checkout, discounts, one-off invoices, payments, the portal, lists."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stripe

from bursar.service.stripe_stand_in.world import Card
from tests.stripe.asking import a_customer, a_session, sdk, subscribed
from tests.stripe.stand_in import StripeStandIn, stripe_stand_in, unix

START = datetime(2026, 3, 1, tzinfo=UTC)


@asynccontextmanager
async def asked() -> AsyncIterator[tuple[StripeStandIn, Any]]:
    async with stripe_stand_in(now=START) as stand_in, sdk(stand_in) as api:
        yield stand_in, api


async def one_off(api: Any, customer: str, cents: int = 5_400) -> Any:
    """A finalized invoice with exactly one item."""
    invoice = await api.invoices.create_async(
        {"customer": customer, "auto_advance": False, "pending_invoice_items_behavior": "exclude"}
    )
    item = {"customer": customer, "invoice": invoice.id, "amount": cents, "currency": "usd", "description": "Commit"}
    await api.invoice_items.create_async(item)
    return await api.invoices.finalize_invoice_async(invoice.id)


async def test_metadata_and_customer_go_from_the_session_to_the_subscription_and_its_invoice() -> None:
    async with asked() as (stand_in, api):
        subscription = await subscribed(stand_in, api)
        (invoice,) = (await api.invoices.list_async({"subscription": subscription.id})).data
        details = invoice.parent.subscription_details
        assert (details.subscription, details.metadata["type"]) == (subscription.id, "kiloclaw")
        assert (invoice.status, invoice.amount_paid, invoice.id) == ("paid", 2_500, subscription.latest_invoice)


async def test_a_promotion_code_lasts_for_its_months() -> None:
    async with asked() as (stand_in, api):
        stand_in.coupon("half", percent_off=50, months=2)
        stand_in.promotion_code("WELCOME", "half")
        session = await a_session(api, allow_promotion_codes=True)
        await stand_in.customer_pays(session.id, promotion_code="WELCOME")
        await stand_in.advance(START + timedelta(days=70))
        paid = [one["data"]["object"]["amount_paid"] for one in stand_in.events if one["type"] == "invoice.paid"]
        assert paid == [1_250, 1_250, 2_500]


async def test_a_challenge_is_met_at_checkout_and_fails_off_session() -> None:
    async with asked() as (stand_in, api):
        subscription = await subscribed(stand_in, api, card=Card.CHALLENGE)
        assert subscription.status == "active"
        invoice = await one_off(api, subscription.customer)
        with pytest.raises(stripe.CardError) as caught:
            await api.invoices.pay_async(invoice.id, {"off_session": True})
        assert caught.value.code == "authentication_required"
        assert (await api.invoices.void_invoice_async(invoice.id)).status == "void"


async def test_a_one_off_invoice_is_paid_and_names_its_payment() -> None:
    async with asked() as (stand_in, api):
        subscription = await subscribed(stand_in, api)
        invoice = await one_off(api, subscription.customer)
        paid = await api.invoices.pay_async(invoice.id)
        assert (paid.status, paid.amount_paid) == ("paid", 5_400)
        seen = await api.invoices.retrieve_async(invoice.id, {"expand": ["payments"]})
        intent = stand_in.one("payment_intent", seen.payments.data[0].payment.payment_intent)
        assert (intent["amount"], intent["status"]) == (5_400, "succeeded")
        for refused in (
            api.invoices.void_invoice_async,
            api.invoices.delete_async,
            api.invoices.finalize_invoice_async,
        ):
            with pytest.raises(stripe.InvalidRequestError):
                await refused(invoice.id)


async def test_only_a_draft_is_deleted() -> None:
    async with asked() as (stand_in, api):
        invoice = await api.invoices.create_async({"customer": await a_customer(api)})
        assert (await api.invoices.delete_async(invoice.id)).deleted
        assert stand_in.all("invoice") == []


async def test_an_off_session_payment_succeeds_with_a_good_card() -> None:
    async with asked() as (stand_in, api):
        customer = await a_customer(api)
        method = stand_in.give_card(customer, Card.GOOD)
        params = {"amount": 2_000, "currency": "usd", "customer": customer, "payment_method": method}
        intent = await api.payment_intents.create_async({**params, "off_session": True, "confirm": True})
        assert (intent.status, intent.amount_received) == ("succeeded", 2_000)


@pytest.mark.parametrize(
    ("card", "code"), [(Card.FAILS_LATER, "card_declined"), (Card.CHALLENGE, "authentication_required")]
)
async def test_an_off_session_payment_fails_as_its_card_does(card: Card, code: str) -> None:
    async with asked() as (stand_in, api):
        customer = await a_customer(api)
        method = stand_in.give_card(customer, card)
        params = {"amount": 2_000, "currency": "usd", "customer": customer, "payment_method": method}
        with pytest.raises(stripe.CardError) as caught:
            await api.payment_intents.create_async({**params, "off_session": True, "confirm": True})
        assert (caught.value.code, caught.value.http_status) == (code, 402)
        (known,) = (await api.payment_intents.list_async({"customer": customer})).data
        assert known.last_payment_error.code == code
        assert (await api.payment_intents.cancel_async(known.id)).status == "canceled"


async def test_a_refund_and_a_dispute_are_told_in_events() -> None:
    async with asked() as (stand_in, api):
        await subscribed(stand_in, api)
        (charge,) = stand_in.all("charge")
        stand_in.refund(charge["id"], 500)
        stand_in.close_dispute(stand_in.dispute(charge["id"])["id"], won=False)
        assert [event["type"] for event in stand_in.events[-5:]] == [
            "refund.created",
            "charge.refunded",
            "charge.dispute.created",
            "charge.dispute.funds_withdrawn",
            "charge.dispute.closed",
        ]


async def test_a_trial_without_a_card_pauses_where_it_is_told_to_and_resumes() -> None:
    async with asked() as (stand_in, api):
        trial = {"trial_period_days": 7, "trial_settings": {"end_behavior": {"missing_payment_method": "pause"}}}
        session = await a_session(api, subscription_data=trial, payment_method_collection="if_required")
        subscription = (await stand_in.customer_pays(session.id, card=None))["subscription"]
        await stand_in.advance(START + timedelta(days=8))
        assert stand_in.subscription(subscription)["status"] == "paused"
        stand_in.give_card(session.customer, Card.GOOD)
        stand_in.resume(subscription)
        await stand_in.advance(START + timedelta(days=9))
        assert stand_in.subscription(subscription)["status"] == "active"


async def test_the_portal_has_our_configuration() -> None:
    async with asked() as (_, api):
        features = {"invoice_history": {"enabled": True}, "payment_method_update": {"enabled": True}}
        made = await api.billing_portal.configurations.create_async({"features": features, "metadata": {"of": "us"}})
        (known,) = (await api.billing_portal.configurations.list_async({"active": True})).data
        assert (known.id, known.metadata["of"]) == (made.id, "us")
        params = {"customer": await a_customer(api), "configuration": made.id, "return_url": "https://app.example.com"}
        assert (await api.billing_portal.sessions.create_async(params)).url.startswith("https://")


async def test_lists_are_newest_first_and_go_page_by_page() -> None:
    async with asked() as (_, api):
        made = [await a_customer(api) for _ in range(5)]
        pages = await api.customers.list_async({"limit": 2})
        assert [one.id async for one in pages.auto_paging_iter()] == made[::-1]


async def test_ended_subscriptions_are_listed_where_asked_for() -> None:
    async with asked() as (stand_in, api):
        subscription = await subscribed(stand_in, api)
        await api.subscriptions.cancel_async(subscription.id)
        of = {"customer": subscription.customer}
        assert (await api.subscriptions.list_async(of)).data == []
        assert [one.id for one in (await api.subscriptions.list_async({**of, "status": "all"})).data] == [
            subscription.id
        ]


async def test_events_are_narrowed_by_type_and_time() -> None:
    async with asked() as (stand_in, api):
        await subscribed(stand_in, api)
        await stand_in.advance(START + timedelta(days=40))
        params = {"types": ["invoice.paid", "invoice.created"], "created": {"gte": unix(START) + 1}, "limit": 100}
        found = (await api.events.list_async(params)).data
        assert [event.type for event in found] == ["invoice.paid", "invoice.created"]
