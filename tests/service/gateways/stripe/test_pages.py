"""Listing events and subscriptions of the whole account, and the urgency of whoever asks."""

from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest

from bursar.billing.errors import BursarError, Retryable
from bursar.billing.stripe.calls import Call, Method
from bursar.service.gateways.stripe import Priority, RateBudget, StripeGateway
from bursar.service.observability.metrics import Metrics
from tests.service.gateways.fake_http import FakeHttp
from tests.service.gateways.stripe.answers import KEY, answer, listing, page, refusal, subscription

SINCE = datetime(2026, 8, 1, tzinfo=UTC)


def at_stripe(server: FakeHttp, metrics: Metrics | None = None) -> StripeGateway:
    return StripeGateway(KEY, api_base=server.url, budget=RateBudget(100), metrics=metrics)


async def test_events_are_listed_page_by_page() -> None:
    event = {"object": "event", "id": "evt_1", "type": "invoice.paid", "data": {"object": {"object": "invoice"}}}
    async with FakeHttp(listing(event, has_more=True)).running() as server, at_stripe(server) as gateway:
        found = await gateway.at(Priority.SWEEP).events_page(
            types=["invoice.paid", "invoice.payment_failed"], created_after=SINCE, starting_after="evt_0"
        )
    asked = urlsplit(server.requests[0].target)
    assert asked.path == "/v1/events"
    assert parse_qs(asked.query) == {
        "types[0]": ["invoice.paid"],
        "types[1]": ["invoice.payment_failed"],
        "created[gte]": [str(int(SINCE.timestamp()))],
        "limit": ["100"],
        "starting_after": ["evt_0"],
    }
    assert (list(found.events), found.has_more, found.last_id) == ([event], True, "evt_1")


async def test_all_subscriptions_are_listed_and_one_that_cannot_be_read_stops_no_other() -> None:
    broken = subscription(2, items={"object": "list", "url": "/v1/subscription_items", "data": []})
    async with FakeHttp(listing(subscription(1), broken)).running() as server, at_stripe(server) as gateway:
        found = await gateway.subscriptions_page(starting_after=None)
    assert parse_qs(urlsplit(server.requests[0].target).query) == {"status": ["all"], "limit": ["100"]}
    assert [one.id for one in found.subscriptions] == ["sub_1"]
    assert found.unreadable == ("Stripe's subscription sub_2 cannot be read: items",)
    assert (found.has_more, found.last_id) == (False, "sub_2")


async def test_the_end_of_a_list_has_no_next_page() -> None:
    async with FakeHttp(page()).running() as server, at_stripe(server) as gateway:
        found = await gateway.subscriptions_page(starting_after="sub_9")
    assert (found.subscriptions, found.has_more, found.last_id) == ((), False, None)


async def test_ms_11_a_retry_after_stops_the_gateway_at_every_urgency() -> None:
    call = Call("it", Method.RETRIEVE_SUBSCRIPTION, "sub_1")
    stripe = FakeHttp(refusal(429, headers={"Retry-After": "60"}), answer(**subscription()))
    async with stripe.running() as server, at_stripe(server) as gateway:
        for priority in (Priority.SWEEP, Priority.PAYMENT):
            with pytest.raises(Retryable) as caught:
                await gateway.at(priority).call(call, "key")
            assert caught.value.retry_after_seconds == pytest.approx(60, abs=5)
    assert len(server.requests) == 1


async def test_requests_are_counted_by_method_and_outcome() -> None:
    metrics = Metrics()
    replies = [answer(**subscription()), refusal(402, code="card_declined"), refusal(500, type="api_error")]
    pay = Call("pay", Method.PAY_INVOICE, "in_1")
    async with FakeHttp(*replies).running() as server, at_stripe(server, metrics) as gateway:
        await gateway.at(Priority.PAYMENT).retrieve_subscription("sub_1")
        for _ in range(2):
            with pytest.raises(BursarError):
                await gateway.call(pay, "key")
    counted = {
        (sample.labels["method"], sample.labels["outcome"])
        for family in metrics.stripe_calls.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    }
    assert counted == {
        ("subscriptions.retrieve", "done"),
        ("invoices.pay", "refused"),
        ("invoices.pay", "key_spent"),
    }
    assert metrics.registry.get_sample_value("bursar_stripe_wait_seconds_count", {"priority": "payment"}) == 1
