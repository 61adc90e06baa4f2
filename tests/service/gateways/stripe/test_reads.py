import json
import logging
import traceback
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest

from bursar.billing.errors import BursarError, Permanent, Retryable, UnreadableMessage
from bursar.billing.stripe.objects import StripeSubscription
from bursar.service.gateways.stripe import MAX_PAGES, StripeGateway
from tests.service.gateways.fake_http import FakeHttp, Reply
from tests.service.gateways.stripe.answers import KEY, listing, missing, page, refusal, subscription


async def listed(server: FakeHttp, timeout_seconds: float = 5) -> list[str]:
    async with StripeGateway(KEY, api_base=server.url + "/", timeout_seconds=timeout_seconds) as gateway:
        return [found.id for found in await gateway.list_subscriptions("cus_1")]


async def retrieved(server: FakeHttp) -> StripeSubscription | None:
    async with StripeGateway(KEY, api_base=server.url) as gateway:
        return await gateway.retrieve_subscription("sub_1")


async def failure(*replies: Reply, timeout_seconds: float = 5) -> BursarError:
    async with FakeHttp(*replies).running() as server:
        with pytest.raises(BursarError) as caught:
            await listed(server, timeout_seconds)
    return caught.value


async def test_all_subscriptions_are_read_page_by_page() -> None:
    async with FakeHttp(page(1, 2, has_more=True), page(3)).running() as server:
        assert await listed(server) == ["sub_1", "sub_2", "sub_3"]
    asked = [parse_qs(urlsplit(request.target).query) for request in server.requests]
    first = {"customer": ["cus_1"], "status": ["all"], "limit": ["100"]}
    assert asked == [first, {**first, "starting_after": ["sub_2"]}]


@pytest.mark.parametrize("ids", [["in_2"], []])
async def test_cr_55_the_newest_paid_invoice_of_a_subscription_is_read(ids: list[str]) -> None:
    paid = [{"id": one, "object": "invoice", "status_transitions": {"paid_at": 1_782_864_000}} for one in ids]
    async with (
        FakeHttp(listing(*paid, has_more=True)).running() as server,
        StripeGateway(KEY, api_base=server.url) as gateway,
    ):
        found = await gateway.newest_paid_invoice("sub_1")
    shown = [(found.id, found.paid_at)] if found else []
    assert shown == [(one, datetime(2026, 7, 1, tzinfo=UTC)) for one in ids]
    (request,) = server.requests
    assert parse_qs(urlsplit(request.target).query) == {"subscription": ["sub_1"], "status": ["paid"], "limit": ["1"]}


async def test_calls_carry_the_key_and_the_pinned_version() -> None:
    async with FakeHttp(page()).running() as server:
        await listed(server)
    headers = server.requests[0].headers
    assert (headers["authorization"], headers["stripe-version"]) == (f"Bearer {KEY}", "2026-08-26.dahlia")


async def test_a_list_beyond_the_bound_is_refused_not_cut_short() -> None:
    async with FakeHttp(page(1, has_more=True)).running() as server:
        with pytest.raises(Permanent, match="more than 1000"):
            await listed(server)
    assert len(server.requests) == MAX_PAGES


@pytest.mark.parametrize("status", [400, 404])
async def test_a_customer_unknown_to_stripe_has_no_subscriptions(status: int) -> None:
    async with FakeHttp(missing("customer", status=status)).running() as server:
        assert await listed(server) == []


async def test_kc_74_a_key_of_the_other_mode_does_not_read_as_no_subscriptions() -> None:
    message = "No such customer: 'cus_1'; a similar object exists in live mode, but a test mode key was used"
    assert isinstance(await failure(missing("customer", message)), Permanent)


async def test_a_list_that_changes_while_it_is_read_is_read_again() -> None:
    assert isinstance(await failure(page(1, has_more=True), missing("starting_after")), Retryable)


async def test_one_subscription_is_read_in_our_view() -> None:
    async with FakeHttp(Reply(body=json.dumps(subscription()).encode())).running() as server:
        found = await retrieved(server)
    assert server.requests[0].target == "/v1/subscriptions/sub_1"
    assert found is not None
    assert found.is_kiloclaw
    assert found.items[0].price == "price_1"
    assert found.items[0].current_period_end == datetime(2026, 8, 1, tzinfo=UTC)


async def test_an_unknown_subscription_is_none() -> None:
    async with FakeHttp(missing("id", "No such subscription: 'sub_1'", 404)).running() as server:
        assert await retrieved(server) is None


@pytest.mark.parametrize(
    "reply",
    [
        refusal(429, code="rate_limit"),
        refusal(400, code="rate_limit"),
        refusal(409, code="lock_timeout"),
        refusal(500, type="api_error"),
        Reply(502, b"<html>bad gateway</html>"),
    ],
)
async def test_ms_11_a_busy_stripe_is_asked_again_by_the_step_alone(reply: Reply) -> None:
    async with FakeHttp(reply).running() as server:
        with pytest.raises(Retryable):
            await listed(server)
    assert len(server.requests) == 1


async def test_ms_11_retry_after_is_honoured() -> None:
    error = await failure(refusal(429, headers={"Retry-After": "9"}))
    assert isinstance(error, Retryable)
    assert error.retry_after_seconds == 9.0


@pytest.mark.parametrize(
    "reply",
    [
        refusal(400),
        refusal(402, code="card_declined"),
        refusal(404),
        Reply(301),
        Reply(200, b"<"),
    ],
)
async def test_what_cannot_get_better_is_permanent(reply: Reply) -> None:
    assert isinstance(await failure(reply), Permanent)


async def test_no_answer_in_time_is_retryable() -> None:
    assert isinstance(await failure(Reply(hangs=True), timeout_seconds=0.05), Retryable)


async def test_an_answer_that_drips_is_bounded_as_a_whole() -> None:
    assert isinstance(await failure(Reply(body=b" " * 50, drips=True), timeout_seconds=0.1), Retryable)


async def test_a_stripe_that_is_down_is_retryable() -> None:
    async with FakeHttp(page()).running() as server:
        pass
    with pytest.raises(Retryable):
        await listed(server)


@pytest.mark.parametrize("status", [400, 401, 402, 429, 500])
async def test_ms_14_an_error_tells_type_code_and_request_but_no_text_of_stripes(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    error = await failure(refusal(status, code="some_code", message=f"Invalid API Key {KEY} of ann@example.test 4242"))
    told = "".join(traceback.format_exception(error, chain=True)) + repr(error) + caplog.text
    assert error.__context__ is None
    assert not [secret for secret in (KEY, "ann@", "4242") if secret in told]
    assert f"code some_code, status {status}, request req_1" in str(error)


async def test_kc_36_a_subscription_of_another_shape_is_unreadable_and_named() -> None:
    raw = subscription()
    del raw["items"]["data"][0]["current_period_end"]
    raw["metadata"] = {"email": ["ann@example.test"]}
    body = json.dumps({"object": "list", "url": "/v1/subscriptions", "data": [raw], "has_more": False}).encode()
    error = await failure(Reply(body=body))
    assert isinstance(error, UnreadableMessage)
    assert "sub_1" in str(error)
    assert "current_period_end" in str(error)
    assert "ann@" not in str(error)
