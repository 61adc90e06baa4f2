"""What Stripe's refusals of an automatic top-up mean: the customer's reasons, or an operator's (CR-39)."""

from collections.abc import Mapping
from typing import Any

import pytest

from bursar.billing.credits.auto_top_up import AutoTopUp, plan
from bursar.billing.errors import CallRefused
from bursar.billing.operations import Ended, Failure, Journal, advance
from bursar.billing.stripe.calls import Call
from tests.billing.credits.crediting import DUE

ASKED = AutoTopUp(key="ada:1", user_id="ada", customer_id="cus_1", amount_cents=2000, boundary=DUE)
LEFT = {"id": "pi_1", "status": "requires_payment_method", "amount": 2000, "metadata": {"topUp": "ada:1"}}
READ: Mapping[str, Mapping[str, Any]] = {
    "payments": {"data": []},
    "customer": {"id": "cus_1", "default_payment_method": "pm_1"},
    "payments-after-refusal": {"data": [LEFT]},
    "cancel:pi_1": LEFT | {"status": "canceled"},
}
MAX_BEATS = 12


def refused(code: str, call: str = "pay") -> tuple[Failure | None, list[str]]:
    """How it ends where Stripe refuses that call with that code, and the calls that were made."""
    journal, made = Journal(), []
    for _ in range(MAX_BEATS):
        match advance(lambda: plan(ASKED), journal):
            case Call() as made_now:
                made.append(made_now.name)
                is_refused = made_now.name == call
                journal = (
                    journal.refused(made_now, CallRefused(code, "no"))
                    if is_refused
                    else journal.answered(made_now, READ[made_now.name])
                )
            case Failure() as failure:
                journal = journal.failing(failure)
            case Ended() as ended:
                return ended.failure, made
    raise AssertionError("it does not end")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("card_declined", "payment_failed"),
        ("expired_card", "payment_failed"),
        ("insufficient_funds", "payment_failed"),
        ("card_decline_rate_limit_exceeded", "payment_failed"),
        ("payment_method_customer_decline", "payment_failed"),
        ("card_error", "payment_failed"),
        ("authentication_required", "payment_requires_action"),
    ],
)
def test_cr_39_the_customers_own_reasons_are_declines(code: str, told: str) -> None:
    failure, made = refused(code)
    assert failure
    assert (failure.code, failure.status) == (told, 402)
    assert made[-1] == "cancel:pi_1"


@pytest.mark.parametrize(
    "code",
    [
        "parameter_missing",
        "parameter_unknown",
        "invalid_request_error",
        "amount_too_small",
        "account_invalid",
        "testmode_charges_only",
        "payment_method_unactivated",
        "resource_missing",
        "url_invalid",
        "unknown",
        "a_code_of_tomorrow",
    ],
)
def test_cr_39_every_other_refusal_is_an_operators_and_leaves_no_payment_open(code: str) -> None:
    failure, made = refused(code)
    assert failure
    assert (failure.code, f"({code})" in failure.message) == ("stripe_refused", True)
    assert made[-1] == "cancel:pi_1"


@pytest.mark.parametrize("call", ["payments", "customer"])
def test_cr_39_a_look_that_is_refused_is_an_operators(call: str) -> None:
    failure, made = refused("resource_missing", call)
    assert failure
    assert (failure.code, made[-1]) == ("stripe_refused", call)
