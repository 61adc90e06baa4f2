"""When a user may be deleted, and what must still happen outside (KC-120)."""

from typing import Any

import pytest

from bursar.billing.account import Account
from bursar.billing.errors import Refused
from bursar.billing.kiloclaw.deletion import delete_user
from bursar.billing.kiloclaw.rows import EarlyEvent, Subscription, hosting_of
from bursar.billing.operations import Operations
from bursar.billing.steps import StepKind
from bursar.billing.values import replace
from tests.billing.kiloclaw.making import DAY, NOW, a_paid_row, a_trial, an_account, an_instance


def deletable(row: Subscription | None = None, *instances: Any, **more: Any) -> Account:
    return an_account(row, *instances, **more).having(Operations())


@pytest.mark.parametrize(
    "row",
    [
        a_paid_row(),
        a_paid_row(status="past_due", past_due_since=NOW),
        a_paid_row(status="past_due", past_due_since=NOW, cancel_at_period_end=True),
        a_paid_row(status="unpaid", past_due_since=NOW, suspended_at=NOW),
    ],
)
def test_kc_120_refused_while_active_past_due_or_unpaid(row: Subscription) -> None:
    with pytest.raises(Refused) as refused:
        delete_user(deletable(row), (), NOW)
    assert (refused.value.code, refused.value.status) == ("user_not_deletable", 409)


@pytest.mark.parametrize(
    "row",
    [None, a_trial(), a_paid_row(status="canceled"), a_paid_row(cancel_at_period_end=True)],
)
def test_kc_120_allowed_otherwise(row: Subscription | None) -> None:
    delete_user(deletable(row), (), NOW)


def test_kc_120_its_stripe_subscription_is_ended_and_every_live_instance_destroyed() -> None:
    running = an_instance(id="inst-1", generation=3, done_generation=3)
    gone = an_instance(id="inst-0", desired_state="destroyed", destroyed_at=NOW - DAY)
    decision = delete_user(deletable(a_paid_row(cancel_at_period_end=True), running, gone), (), NOW)

    assert [(step.kind, step.key) for step in decision.steps] == [
        (StepKind.END_SUBSCRIPTION, "end-subscription:sub_1"),
    ]
    doomed = {one.id: one for one in hosting_of(decision.account).instances}
    assert doomed["inst-1"] == replace(running, desired_state="destroyed", generation=4, destroying_since=NOW)
    assert doomed["inst-0"] == gone


def test_kc_120_every_customer_is_ended_whatever_the_rows_know_of_them() -> None:
    decision = delete_user(deletable(None), ("cus_1", "cus_2"), NOW)
    assert [(step.kind, step.key, step.coalesced) for step in decision.steps] == [
        (StepKind.END_CUSTOMER, "end-customer:cus_1", True),
        (StepKind.END_CUSTOMER, "end-customer:cus_2", True),
    ]


def test_kc_120_an_instance_on_its_way_out_is_asked_for_anew() -> None:
    """Its call may be under way and answers to an account that is gone."""
    leaving = an_instance(desired_state="destroyed", generation=2, destroying_since=NOW - DAY)
    decision = delete_user(deletable(None, leaving), (), NOW)
    assert hosting_of(decision.account).instances == (replace(leaving, generation=3),)


def test_kc_120_a_canceled_rows_subscription_is_looked_at_too_and_one_that_no_row_knew() -> None:
    """`paused` counts as canceled here and goes on at Stripe."""
    early = EarlyEvent("evt_1", "sub_2", "cus_1", "customer.subscription.updated", NOW)
    decision = delete_user(
        deletable(a_paid_row(status="canceled"), early=(early, replace(early, event_id="evt_2"))), (), NOW
    )
    assert [step.payload["stripe_subscription_id"] for step in decision.steps] == ["sub_1", "sub_2"]


@pytest.mark.parametrize("under_way", [Operations(open_keys=("operation:1",)), Operations(keeps_schedule=True)])
def test_a_change_under_way_at_stripe_comes_first(under_way: Operations) -> None:
    with pytest.raises(Refused, match="under way"):
        delete_user(an_account().having(under_way), (), NOW)
