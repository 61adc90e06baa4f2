"""What is kept of Stripe's objects can be read again: a journal of answers is replayed over its own views (MS-11)."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from bursar.billing.stripe.calls import VIEWS, Method
from bursar.billing.stripe.lists import InvoicePayment
from bursar.billing.stripe.objects import StripeInvoice, StripeObject, StripeSubscription
from bursar.billing.stripe.sales import (
    CheckoutSession,
    Created,
    PaymentIntent,
    PortalConfiguration,
    PortalSession,
    StripeCustomer,
)
from bursar.billing.stripe.schedules import StripeSchedule
from bursar.service.demo.generator import generated_lives
from bursar.service.demo.lives import all_events, recorded_lives

LIVES = recorded_lives() or generated_lives()
RECORDED: Mapping[str, type[StripeObject]] = {
    "subscription": StripeSubscription,
    "subscription_schedule": StripeSchedule,
    "invoice": StripeInvoice,
    "customer": StripeCustomer,
    "payment_intent": PaymentIntent,
    "invoiceitem": Created,
}
PERSONAL = ("email", "name", "phone", "address", "card")

# As Stripe's OpenAPI description shapes them, null where it may be.
ITEM: dict[str, Any] = {
    "price": {"id": "price_1", "object": "price"},
    "quantity": 1,
    "metadata": None,
    "discounts": [],
    "billing_thresholds": None,
    "tax_rates": [{"id": "txr_1", "percentage": 19.0}],
}
PHASE: dict[str, Any] = {
    "start_date": 1785542400,
    "end_date": 1801440000,
    "items": [ITEM],
    "discounts": [{"coupon": "co_1", "discount": None, "promotion_code": None}],
    "trial_end": None,
    "metadata": None,
    "add_invoice_items": [],
    "proration_behavior": "none",
}
SHAPES: Mapping[str, tuple[type[StripeObject], dict[str, Any]]] = {
    "checkout.session": (
        CheckoutSession,
        {"id": "cs_1", "status": None, "url": None, "customer": None, "subscription": None, "metadata": None},
    ),
    "checkout.session, expanded": (
        CheckoutSession,
        {"id": "cs_1", "status": "complete", "customer": {"id": "cus_1"}, "subscription": {"id": "sub_1"}},
    ),
    "billing_portal.configuration": (PortalConfiguration, {"id": "bpc_1", "active": False, "metadata": None}),
    "invoice_payment": (
        InvoicePayment,
        {"id": "inpay_1", "invoice": {"id": "in_1"}, "payment": {"type": "payment_intent", "payment_intent": "pi_1"}},
    ),
    "billing_portal.session": (PortalSession, {"id": "bps_1", "url": "https://portal.example.test/1"}),
    "payment_intent": (PaymentIntent, {"id": "pi_1", "status": "canceled", "amount": 900, "customer": None}),
    "subscription_schedule": (
        StripeSchedule,
        {
            "id": "sub_sched_1",
            "status": "active",
            "subscription": {"id": "sub_1"},
            "metadata": None,
            "current_phase": {"start_date": 1785542400, "end_date": 1801440000},
            "phases": [PHASE],
        },
    ),
    "subscription_schedule, released": (
        StripeSchedule,
        {"id": "s", "status": "released", "subscription": None, "released_subscription": "sub_1", "phases": [PHASE]},
    ),
    "invoice": (StripeInvoice, {"id": "in_1", "status": None, "metadata": None, "parent": None}),
    "invoice, one-off": (StripeInvoice, {"id": "in_1", "parent": {"subscription_details": None}}),
    "invoice, of a subscription": (
        StripeInvoice,
        {"id": "in_1", "parent": {"subscription_details": {"subscription": "sub_1", "metadata": None}}},
    ),
    "invoice, before 2025": (
        StripeInvoice,
        {"id": "in_1", "subscription": {"id": "sub_1"}, "subscription_details": {"metadata": {"userId": "ada"}}},
    ),
    "invoice, deleted": (Created, {"id": "in_1", "deleted": True}),
}


def kept(view: type[StripeObject], raw: object) -> dict[str, Any]:
    """What a journal holds of it, after a trip through Postgres."""
    dumped: dict[str, Any] = json.loads(json.dumps(view.model_validate(raw).model_dump(mode="json")))
    return dumped


def assert_survives(view: type[StripeObject], raw: object) -> None:
    once = kept(view, raw)
    assert view.model_validate(once) == view.model_validate(raw)
    assert kept(view, once) == once


@pytest.mark.parametrize("shape", SHAPES)
def test_a_kept_answer_reads_as_stripes_own(shape: str) -> None:
    assert_survives(*SHAPES[shape])


@pytest.mark.parametrize("kind", RECORDED)
def test_every_recorded_object_survives_being_kept(kind: str) -> None:
    for event in all_events(LIVES):
        thing = event["data"]["object"]
        if thing["object"] == kind:
            assert_survives(RECORDED[kind], thing)


@pytest.mark.parametrize("method", [method for method in Method if method.endswith(".list")])
def test_a_kept_list_reads_as_stripes_own(method: Method) -> None:
    view = VIEWS[method]
    [of] = [one for one in view.model_fields["data"].annotation.__args__ if one is not Ellipsis]  # type: ignore[union-attr]
    shapes = [raw for _, (shaped, raw) in SHAPES.items() if shaped is of]
    recorded = [event["data"]["object"] for event in all_events(LIVES) if RECORDED.get(_kind(event)) is of]
    assert shapes or recorded
    assert_survives(view, {"object": "list", "has_more": False, "data": shapes + recorded[:20]})


def _kind(event: Mapping[str, Any]) -> str:
    return str(event["data"]["object"]["object"])


def test_a_running_phase_is_kept_whole() -> None:
    [phase] = kept(StripeSchedule, SHAPES["subscription_schedule"][1])["phases"]
    assert phase["items"] == [ITEM | {"price": "price_1"}]
    assert phase["proration_behavior"] == "none"
    assert phase["discounts"] == PHASE["discounts"]


def test_ms_14_nothing_personal_is_kept() -> None:
    for event in all_events(LIVES):
        if _kind(event) in RECORDED:
            told = json.dumps(kept(RECORDED[_kind(event)], event["data"]["object"]))
            assert not [word for word in PERSONAL if f'"{word}"' in told]
