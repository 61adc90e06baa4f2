"""The billing portal: for whom, and with which configuration (KC-54)."""

from typing import Any

import pytest

from bursar.billing.errors import Refused
from bursar.billing.kiloclaw.operations.portal import portal_address, portal_customer
from bursar.billing.kiloclaw.rows import Hosting, Subscription
from bursar.billing.stripe.calls import VIEWS, Call
from tests.billing.kiloclaw.making import DAY, NOW, a_paid_row, a_trial
from tests.billing.kiloclaw.operations.driving import listed

ANSWERS = {
    "create-configuration": {"id": "bpc_new"},
    "create-session": {"id": "bps_1", "url": "https://billing.example.test/bps_1"},
}


def opened(*known: dict[str, Any]) -> tuple[list[Call], str]:
    generator = portal_address("cus_1", "https://app.example.test/claw")
    calls, answers = [next(generator)], {**ANSWERS, "list-configurations": listed(*known)}
    while True:
        try:
            calls.append(generator.send(VIEWS[calls[-1].method].model_validate(answers[calls[-1].name])))
        except StopIteration as stop:
            return calls, stop.value


@pytest.mark.parametrize(
    "row",
    [
        None,
        a_trial(),
        a_paid_row(payment_source="credits", stripe_subscription_id=None, credit_renewal_at=NOW + 30 * DAY),
        a_paid_row(stripe_customer_id=None),
    ],
)
def test_kc_54_a_row_without_a_stripe_id_has_no_portal(row: Subscription | None) -> None:
    with pytest.raises(Refused) as refused:
        portal_customer(Hosting(subscription=row), None)
    assert (refused.value.code, refused.value.status) == ("billing_portal_unavailable", 400)


@pytest.mark.parametrize("status", ["active", "past_due", "unpaid", "canceled"])
def test_kc_54_every_row_with_a_stripe_id_has_one(status: Any) -> None:
    assert portal_customer(Hosting(subscription=a_paid_row(status=status)), None) == "cus_1"
    assert portal_customer(Hosting(subscription=a_paid_row(stripe_customer_id=None)), "cus_told") == "cus_told"


def test_kc_54_our_configuration_is_found() -> None:
    theirs, ours = {"id": "bpc_1"}, {"id": "bpc_2", "metadata": {"bursar": "kiloclaw"}}
    calls, address = opened(theirs, ours)

    assert address == "https://billing.example.test/bps_1"
    assert [call.name for call in calls] == ["list-configurations", "create-session"]
    assert calls[-1].params == {
        "customer": "cus_1",
        "configuration": "bpc_2",
        "return_url": "https://app.example.test/claw",
    }


def test_kc_54_or_created_once_for_all_without_canceling_and_switching() -> None:
    calls, _ = opened({"id": "bpc_1"})
    created = calls[1]

    assert created.idempotency_key == "portal-configuration:kiloclaw"
    enabled = {name: feature["enabled"] for name, feature in created.params["features"].items()}
    assert enabled == {
        "payment_method_update": True,
        "invoice_history": True,
        "customer_update": False,
        "subscription_cancel": False,
        "subscription_update": False,
    }
    assert calls[-1].params["configuration"] == "bpc_new"
