"""Each call of an operation, as Stripe is asked and as its answer is kept (MS-11, KC-46)."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from bursar.billing.errors import CallRefused, KeyRefused, KeySpent, Permanent, Retryable
from bursar.billing.stripe.calls import READS, VIEWS, Call, Method
from bursar.service.gateways.stripe import StripeGateway
from bursar.service.observability.metrics import Metrics
from tests.service.gateways.fake_http import FakeHttp, Reply
from tests.service.gateways.stripe.answers import KEY, answer, listing, missing, page, refusal, subscription

SCHEDULE = {"object": "subscription_schedule", "id": "sub_sched_1", "status": "active"}
INVOICE = {"object": "invoice", "id": "in_1", "status": "open", "metadata": None, "parent": None}
SESSION = {"object": "checkout.session", "id": "cs_1", "status": "open", "metadata": None}
INTENT = {"object": "payment_intent", "id": "pi_1", "status": "succeeded", "amount": 900}
PORTAL = {"object": "billing_portal.session", "id": "bps_1", "url": "https://portal.example.test/1"}
CONFIGURATION = {"object": "billing_portal.configuration", "id": "bpc_1", "active": True}
CUSTOMER = {"object": "customer", "id": "cus_1", "email": "ann@example.test", "name": "Ann"}

# Method: target, how Stripe is asked by its OpenAPI description, what it answers
ASKED: Mapping[Method, tuple[str | None, str, Mapping[str, Any]]] = {
    Method.RETRIEVE_SUBSCRIPTION: ("sub_1", "GET /v1/subscriptions/sub_1", subscription()),
    Method.LIST_SUBSCRIPTIONS: (None, "GET /v1/subscriptions", subscription()),
    Method.UPDATE_SUBSCRIPTION: ("sub_1", "POST /v1/subscriptions/sub_1", subscription()),
    Method.CANCEL_SUBSCRIPTION: ("sub_1", "DELETE /v1/subscriptions/sub_1", subscription()),
    Method.LIST_CUSTOMERS: (None, "GET /v1/customers", CUSTOMER),
    Method.RETRIEVE_CUSTOMER: ("cus_1", "GET /v1/customers/cus_1", CUSTOMER),
    Method.CREATE_CUSTOMER: (None, "POST /v1/customers", CUSTOMER),
    Method.LIST_PAYMENT_METHODS: (None, "GET /v1/payment_methods", {"id": "pm_1"}),
    Method.LIST_CHECKOUT_SESSIONS: (None, "GET /v1/checkout/sessions", SESSION),
    Method.CREATE_CHECKOUT_SESSION: (None, "POST /v1/checkout/sessions", SESSION),
    Method.EXPIRE_CHECKOUT_SESSION: ("cs_1", "POST /v1/checkout/sessions/cs_1/expire", SESSION),
    Method.RETRIEVE_SCHEDULE: ("sub_sched_1", "GET /v1/subscription_schedules/sub_sched_1", SCHEDULE),
    Method.CREATE_SCHEDULE: (None, "POST /v1/subscription_schedules", SCHEDULE),
    Method.UPDATE_SCHEDULE: ("sub_sched_1", "POST /v1/subscription_schedules/sub_sched_1", SCHEDULE),
    Method.RELEASE_SCHEDULE: ("sub_sched_1", "POST /v1/subscription_schedules/sub_sched_1/release", SCHEDULE),
    Method.LIST_INVOICES: (None, "GET /v1/invoices", INVOICE),
    Method.RETRIEVE_INVOICE: ("in_1", "GET /v1/invoices/in_1", INVOICE),
    Method.LIST_INVOICE_PAYMENTS: (None, "GET /v1/invoice_payments", {"id": "inpay_1", "invoice": "in_1"}),
    Method.CREATE_INVOICE: (None, "POST /v1/invoices", INVOICE),
    Method.CREATE_INVOICE_ITEM: (None, "POST /v1/invoiceitems", {"object": "invoiceitem", "id": "ii_1"}),
    Method.FINALIZE_INVOICE: ("in_1", "POST /v1/invoices/in_1/finalize", INVOICE),
    Method.PAY_INVOICE: ("in_1", "POST /v1/invoices/in_1/pay", INVOICE),
    Method.VOID_INVOICE: ("in_1", "POST /v1/invoices/in_1/void", INVOICE),
    Method.DELETE_INVOICE: ("in_1", "DELETE /v1/invoices/in_1", {"object": "invoice", "id": "in_1", "deleted": True}),
    Method.LIST_PORTAL_CONFIGURATIONS: (None, "GET /v1/billing_portal/configurations", CONFIGURATION),
    Method.CREATE_PORTAL_CONFIGURATION: (None, "POST /v1/billing_portal/configurations", CONFIGURATION),
    Method.CREATE_PORTAL_SESSION: (None, "POST /v1/billing_portal/sessions", PORTAL),
    Method.LIST_PAYMENT_INTENTS: (None, "GET /v1/payment_intents", INTENT),
    Method.CREATE_PAYMENT_INTENT: (None, "POST /v1/payment_intents", INTENT),
    Method.CANCEL_PAYMENT_INTENT: ("pi_1", "POST /v1/payment_intents/pi_1/cancel", INTENT),
    Method.CREATE_REFUND: (None, "POST /v1/refunds", {"id": "re_1", "object": "refund"}),
}


async def called(server: FakeHttp, call: Call, timeout_seconds: float = 5) -> Mapping[str, Any]:
    async with StripeGateway(KEY, api_base=server.url, timeout_seconds=timeout_seconds) as gateway:
        return await gateway.call(call, "step:1:0:it")


async def outcome(call: Call, *replies: Reply) -> tuple[Mapping[str, Any], list[str]]:
    async with FakeHttp(*replies).running() as server:
        answered = await called(server, call)
    return answered, [f"{request.method} {request.target}" for request in server.requests]


async def raised(call: Call, *replies: Reply, timeout_seconds: float = 5) -> Exception:
    async with FakeHttp(*replies).running() as server:
        with pytest.raises((Retryable, Permanent)) as caught:
            await called(server, call, timeout_seconds)
    assert caught.value.__context__ is None, "Stripe's own words stay behind"
    return caught.value


PAY = Call("pay", Method.PAY_INVOICE, "in_1")
CANCEL = Call("cancel", Method.CANCEL_SUBSCRIPTION, "sub_1")
RELEASE = Call("release", Method.RELEASE_SCHEDULE, "sub_sched_1")


@pytest.mark.parametrize("method", list(Method))
async def test_ms_11_each_call_is_made_as_stripe_documents_it_under_its_key(method: Method) -> None:
    target, asked, stripes = ASKED[method]
    reply = listing(dict(stripes)) if method.endswith(".list") else answer(**stripes)
    async with FakeHttp(reply).running() as server:
        kept = await called(server, Call("it", method, target))
    [request] = server.requests
    assert f"{request.method} {urlsplit(request.target).path}" == asked
    assert request.headers.get("idempotency-key") == (None if method in READS else "step:1:0:it")
    assert VIEWS[method].model_validate(kept).model_dump(mode="json") == kept


async def test_parameters_are_sent_in_stripes_form() -> None:
    params = {"customer": "cus_1", "items": [{"price": "price_1"}], "metadata": {"userId": "user-1"}, "paused": False}
    async with FakeHttp(answer(**SESSION)).running() as server:
        await called(server, Call("it", Method.CREATE_CHECKOUT_SESSION, params=params))
    assert parse_qs(server.requests[0].body.decode()) == {
        "customer": ["cus_1"],
        "items[0][price]": ["price_1"],
        "metadata[userId]": ["user-1"],
        "paused": ["false"],
    }


async def test_ms_14_nothing_personal_is_kept_of_an_answer() -> None:
    kept, _ = await outcome(Call("it", Method.CREATE_CUSTOMER), answer(**CUSTOMER))
    assert kept == {"id": "cus_1", "metadata": {}, "default_payment_method": None}


async def test_a_list_is_kept_whole() -> None:
    kept, asked = await outcome(Call("all", Method.LIST_SUBSCRIPTIONS), page(1, 2, has_more=True), page(3))
    assert [one["id"] for one in kept["data"]] == ["sub_1", "sub_2", "sub_3"]
    assert asked[1].endswith("?limit=100&starting_after=sub_2")


async def test_a_list_beyond_the_bound_is_refused() -> None:
    error = await raised(Call("all", Method.LIST_SUBSCRIPTIONS), page(1, has_more=True))
    assert isinstance(error, Permanent)


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (refusal(402, type="card_error", code="card_declined", message="ann@example.test"), "card_declined"),
        (refusal(402, type="card_error", code="authentication_required"), "authentication_required"),
        (refusal(404, code="resource_missing"), "resource_missing"),
        (refusal(400), "invalid_request_error"),
        (refusal(400, type="Ann's card is declined"), "unknown"),
    ],
)
async def test_ms_11_what_stripe_refuses_for_good_names_its_code_only(reply: Reply, code: str) -> None:
    error = await raised(PAY, reply)
    assert isinstance(error, CallRefused)
    assert error.code == code
    assert "ann" not in str(error).lower()


@pytest.mark.parametrize(
    "reply", [refusal(401), refusal(403), refusal(403, code="account_invalid"), Reply(401, b""), Reply(403, b"<html>")]
)
async def test_ms_11_a_refused_key_is_an_operators_to_mend_and_tried_again_in_five_minutes(reply: Reply) -> None:
    error = await raised(PAY, reply)
    assert isinstance(error, KeyRefused)
    assert "the Stripe key is refused" in str(error)
    assert error.retry_after_seconds == 300


async def test_a_refused_key_is_counted_from_zero_for_the_alert() -> None:
    metrics = Metrics()
    assert metrics.stripe_key_refused._value.get() == 0
    async with (
        FakeHttp(refusal(401)).running() as server,
        StripeGateway(KEY, api_base=server.url, metrics=metrics) as gateway,
    ):
        with pytest.raises(KeyRefused):
            await gateway.call(PAY, "step:1:0:it")
    assert metrics.stripe_key_refused._value.get() == 1
    assert metrics.stripe_calls.labels(PAY.method.value, "key_refused")._value.get() == 1


@pytest.mark.parametrize(
    "reply",
    [
        refusal(409, type="idempotency_error", code="idempotency_key_in_use"),
        refusal(429, code="lock_timeout"),
        refusal(400, code="lock_timeout"),
        refusal(500, type="api_error", headers={"Stripe-Should-Retry": "true"}),
        Reply(500, b"<html>"),
        Reply(502, b"<html>bad gateway</html>"),
        Reply(503, b""),
        Reply(504, b'{"error": "upstream"}'),
        Reply(408, b""),
        Reply(200, b"<html>"),
        Reply(200, b"[]"),
        Reply(hangs_up=True),
        Reply(hangs=True),
    ],
)
async def test_ms_11_a_call_without_a_definite_answer_is_made_again_under_its_key(reply: Reply) -> None:
    error = await raised(PAY, reply, timeout_seconds=1)
    assert isinstance(error, Retryable)
    assert not isinstance(error, KeySpent)


@pytest.mark.parametrize(
    "reply", [refusal(500, type="api_error"), refusal(503, type="api_error"), refusal(400, type="idempotency_error")]
)
async def test_ms_11_a_key_under_which_stripe_keeps_its_failure_is_spent(reply: Reply) -> None:
    assert isinstance(await raised(PAY, reply), KeySpent)


async def test_ms_11_a_read_has_no_key_to_spend() -> None:
    error = await raised(Call("it", Method.RETRIEVE_INVOICE, "in_1"), refusal(500, type="api_error"))
    assert type(error) is Retryable


@pytest.mark.parametrize(
    ("method", "target", "ended"),
    [
        (Method.CANCEL_SUBSCRIPTION, "sub_1", subscription(status="canceled")),
        (Method.RELEASE_SCHEDULE, "sub_sched_1", SCHEDULE | {"status": "released"}),
        (Method.RELEASE_SCHEDULE, "sub_sched_1", SCHEDULE | {"status": "canceled"}),
        (Method.RELEASE_SCHEDULE, "sub_sched_1", SCHEDULE | {"status": "completed"}),
        (Method.VOID_INVOICE, "in_1", INVOICE | {"status": "void"}),
        (Method.EXPIRE_CHECKOUT_SESSION, "cs_1", SESSION | {"status": "expired"}),
        (Method.EXPIRE_CHECKOUT_SESSION, "cs_1", SESSION | {"status": "complete"}),
        (Method.CANCEL_PAYMENT_INTENT, "pi_1", INTENT | {"status": "canceled"}),
    ],
)
async def test_kc_46_what_has_already_ended_counts_as_done(method: Method, target: str, ended: dict[str, Any]) -> None:
    kept, asked = await outcome(Call("end", method, target), refusal(400), answer(**ended))
    assert (kept["id"], kept["status"]) == (target, ended["status"])
    assert asked[1].startswith("GET ")


@pytest.mark.parametrize("still", [answer(**SCHEDULE), missing("schedule", status=404)])
async def test_kc_46_a_release_that_is_refused_otherwise_stays_refused(still: Reply) -> None:
    error = await raised(RELEASE, refusal(400, code="some_code"), still)
    assert isinstance(error, CallRefused)
    assert error.code == "some_code"


async def test_kc_46_whether_it_has_ended_may_be_unknown() -> None:
    assert isinstance(await raised(CANCEL, missing("id", status=404), Reply(502, b"")), Retryable)


async def test_kc_46_a_draft_that_is_gone_is_deleted() -> None:
    kept, asked = await outcome(Call("delete", Method.DELETE_INVOICE, "in_1"), missing("id", status=404))
    assert (kept, len(asked)) == ({"id": "in_1"}, 1)


async def test_kc_40_a_phase_is_kept_with_all_that_stripe_says_of_it() -> None:
    item = {"price": "price_1", "quantity": 1, "tax_rates": ["txr_1"], "metadata": {"a": "b"}}
    phase = {"start_date": 1, "end_date": 2, "items": [item], "proration_behavior": "none", "trial_end": None}
    kept, _ = await outcome(Call("it", Method.RETRIEVE_SCHEDULE, "s"), answer(**SCHEDULE, phases=[phase]))
    [again] = json.loads(json.dumps(kept))["phases"]
    assert again["items"] == [item]
    assert again["proration_behavior"] == "none"
