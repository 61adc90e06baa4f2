"""Switching the plan, and taking that back (KC-42…KC-44)."""

from collections.abc import Mapping
from typing import Any

import pytest

from bursar.billing.calendar import add_months
from bursar.billing.catalogue import PaidPlan
from bursar.billing.errors import CallRefused, Refused
from bursar.billing.kiloclaw.operations.switching import (
    Switch,
    apply,
    cancel_plan_switch,
    switch,
    switch_plan,
    take_back,
)
from bursar.billing.kiloclaw.phases import KeptSchedule
from bursar.billing.kiloclaw.rows import Subscription, hosting_of
from bursar.billing.operations import Ended, Failure, Operations
from bursar.billing.steps import StepKind
from bursar.billing.stripe.calls import Method
from bursar.billing.values import replace
from tests.billing.kiloclaw.making import CATALOGUE, COMMIT, DAY, NOW, STANDARD, a_paid_row, a_trial, subscription_json
from tests.billing.kiloclaw.operations.driving import Driven, an_account, drive, facts
from tests.billing.kiloclaw.scheduled import (
    COMMIT_END,
    OURS,
    STANDARD_END,
    SWITCHING,
    commit_phases,
    phase_json,
    schedule_json,
    switch_phases,
    terms,
)

STANDARD_ROW = a_paid_row(current_period_end=STANDARD_END)
COMMIT_ROW = a_paid_row(
    plan="commit",
    current_period_end=COMMIT_END,
    stripe_schedule_id="sub_sched_1",
    commit_ends_at=COMMIT_END,
    scheduled_plan="standard",
    scheduled_by="auto",
)
LEAVING = replace(COMMIT_ROW, scheduled_by="user")
COMING = replace(STANDARD_ROW, stripe_schedule_id="sub_sched_1", scheduled_plan="commit", scheduled_by="user")
CREDITS = replace(STANDARD_ROW, payment_source="credits", stripe_subscription_id=None, credit_renewal_at=STANDARD_END)
REFUSED = CallRefused("invalid_request_error", "Stripe: refused")
MADE = schedule_json(switch_phases()[0], metadata={})
TO_COMMIT = schedule_json(*switch_phases(), metadata=SWITCHING)
BY_USER = schedule_json(*commit_phases(), metadata={**OURS, "origin": "user"})
BY_ITSELF = schedule_json(*commit_phases())


def a_subscription(price: str = STANDARD, **changes: Any) -> dict[str, Any]:
    return subscription_json(price=price, end=COMMIT_END if price == COMMIT else STANDARD_END, **changes)


def switched(target: PaidPlan | None, **answers: Mapping[str, Any] | CallRefused) -> Driven:
    asked = Switch(subscription_id="sub_1", target=target, terms=terms())
    named = {name.replace("_", "-"): answer for name, answer in answers.items()}
    return drive(lambda: switch(asked) if target else take_back(asked), named)


def result_of(driven: Driven) -> KeptSchedule:
    return KeptSchedule.model_validate(driven.ended.result)


@pytest.mark.parametrize(
    ("row", "target", "code"),
    [
        (None, "commit", "not_active"),
        (a_trial(), "commit", "not_active"),
        (replace(STANDARD_ROW, status="past_due", past_due_since=NOW), "commit", "not_active"),
        (replace(STANDARD_ROW, status="canceled"), "commit", "not_active"),
        (STANDARD_ROW, "standard", "same_plan"),
        (replace(STANDARD_ROW, cancel_at_period_end=True), "commit", "cancellation_pending"),
        (replace(CREDITS, cancel_at_period_end=True), "commit", "cancellation_pending"),
    ],
)
def test_kc_42_what_cannot_be_switched_is_refused(row: Subscription | None, target: PaidPlan, code: str) -> None:
    with pytest.raises(Refused) as refusal:
        switch_plan(an_account(row), target, CATALOGUE, "c1")

    assert refusal.value.code == code


def test_kc_42_one_change_at_a_time() -> None:
    with pytest.raises(Refused) as refusal:
        switch_plan(an_account(STANDARD_ROW, under_way=Operations(("operation:c0",))), "commit", CATALOGUE, "c1")

    assert (refusal.value.code, refusal.value.status) == ("operation_in_progress", 409)


def test_kc_42_a_switch_is_one_operation() -> None:
    decision = switch_plan(an_account(STANDARD_ROW), "commit", CATALOGUE, "c1")

    [step] = decision.steps
    assert (step.kind, step.key) == (StepKind.OPERATION, "operation:c1")
    assert hosting_of(decision.account).subscription == STANDARD_ROW


def test_cr_35_a_pure_credit_row_is_switched_here() -> None:
    decision = switch_plan(an_account(CREDITS), "commit", CATALOGUE, "c1")
    row = hosting_of(decision.account).subscription

    assert row == replace(CREDITS, version=2, scheduled_plan="commit", scheduled_by="user")
    assert decision.steps == ()
    again = cancel_plan_switch(an_account(row), CATALOGUE, "c2")
    assert hosting_of(again.account).subscription == replace(CREDITS, version=3)


def test_kc_43_a_pure_credit_commitment_becomes_standard_by_itself_again() -> None:
    row = replace(CREDITS, plan="commit", commit_ends_at=COMMIT_END, scheduled_plan="standard", scheduled_by="user")

    decision = cancel_plan_switch(an_account(row), CATALOGUE, "c1")

    assert hosting_of(decision.account).subscription == replace(row, version=2, scheduled_by="auto")


def test_kc_42_standard_to_commit() -> None:
    driven = switched("commit", subscription=a_subscription(), create_schedule=MADE, update_schedule=TO_COMMIT)

    written = driven.called("update-schedule").params
    assert [phase["items"][0]["price"] for phase in written["phases"]] == [STANDARD, COMMIT, STANDARD]
    assert written["phases"][0]["end_date"] == int(STANDARD_END.timestamp())
    assert written["metadata"] == SWITCHING
    assert result_of(driven) == KeptSchedule(
        schedule_id="sub_sched_1", plan="standard", scheduled_plan="commit", scheduled_by="user"
    )


def test_kc_43_an_automatic_schedule_is_replaced_in_place() -> None:
    driven = switched(
        "standard",
        subscription=a_subscription(COMMIT, schedule="sub_sched_1"),
        schedule=BY_ITSELF,
        update_schedule=BY_USER,
    )

    assert driven.names == ["subscription", "schedule", "update-schedule"]
    assert driven.called("update-schedule").params["metadata"]["origin"] == "user"
    assert (result_of(driven).scheduled_by, result_of(driven).commit_ends_at) == ("user", COMMIT_END)


@pytest.mark.parametrize(
    ("subscription", "code"),
    [
        (a_subscription(cancel_at_period_end=True), "cancellation_pending"),
        (a_subscription(cancel_at=int(STANDARD_END.timestamp())), "cancellation_pending"),
        (a_subscription(COMMIT), "same_plan"),
        (a_subscription(status="past_due"), "not_active"),
    ],
)
def test_kc_42_what_stands_at_stripe_counts(subscription: dict[str, Any], code: str) -> None:
    driven = switched("commit", subscription=subscription)

    assert (driven.failed_with, driven.names) == (code, ["subscription"])


def test_kc_41_a_foreign_schedule_stops_the_switch() -> None:
    foreign = schedule_json(*switch_phases(), metadata={"made": "by hand"})

    driven = switched("commit", subscription=a_subscription(schedule="sub_sched_1"), schedule=foreign)

    assert driven.failed_with == "foreign_schedule"
    assert driven.names == ["subscription", "schedule"]


def test_kc_46_a_switch_whose_phases_are_refused_releases_what_it_made() -> None:
    driven = switched("commit", subscription=a_subscription(), create_schedule=MADE, update_schedule=REFUSED)

    assert driven.failed_with == "stripe_refused"
    assert (driven.calls[-1].method, driven.calls[-1].target) == (Method.RELEASE_SCHEDULE, "sub_sched_1")


def test_kc_43_a_switch_whose_phases_are_refused_leaves_an_automatic_schedule() -> None:
    driven = switched(
        "standard",
        subscription=a_subscription(COMMIT, schedule="sub_sched_1"),
        schedule=BY_ITSELF,
        update_schedule=REFUSED,
    )

    assert driven.failed_with == "stripe_refused"
    assert driven.names[-1] == "update-schedule"


@pytest.mark.parametrize("row", [None, STANDARD_ROW, COMMIT_ROW, CREDITS])
def test_kc_44_without_a_user_s_switch_there_is_none_to_cancel(row: Subscription | None) -> None:
    with pytest.raises(Refused) as refusal:
        cancel_plan_switch(an_account(row), CATALOGUE, "c1")

    assert refusal.value.code == "no_pending_switch"


def test_kc_44_a_switch_taken_back_is_released_then_cleared() -> None:
    driven = switched(
        None,
        subscription=a_subscription(schedule="sub_sched_1"),
        schedule=TO_COMMIT,
        release_schedule=schedule_json(*switch_phases(), status="released"),
    )

    assert driven.names == ["subscription", "schedule", "release-schedule"]
    assert result_of(driven) == KeptSchedule(plan="standard")


@pytest.mark.parametrize("released", [True, False], ids=["schedule gone", "schedule there"])
def test_kc_43_a_commit_plan_gets_its_automatic_schedule_back(*, released: bool) -> None:
    driven = switched(
        None,
        subscription=a_subscription(COMMIT, schedule=None if released else "sub_sched_1"),
        schedule=BY_USER,
        create_schedule=schedule_json(commit_phases()[0], metadata={}),
        update_schedule=BY_ITSELF,
    )

    assert driven.called("update-schedule").params["metadata"] == OURS
    assert result_of(driven).scheduled_by == "auto"


def test_kc_44_a_switch_that_took_effect_is_not_pending_any_more() -> None:
    arrived = schedule_json(*switch_phases(), running=1, metadata=SWITCHING)

    driven = switched(None, subscription=a_subscription(COMMIT, schedule="sub_sched_1"), schedule=arrived)

    assert driven.failed_with == "no_pending_switch"


def applied(row: Subscription | None, kept: KeptSchedule | None, target: PaidPlan | None) -> Subscription | None:
    asked = Switch(subscription_id="sub_1", target=target, terms=terms())
    failure = None if kept else Failure("stripe_refused", "")
    ended = Ended(kept.model_dump(mode="json") if kept else None, failure)
    return hosting_of(apply(an_account(row), asked, ended, facts()).account).subscription


def test_kc_42_the_row_records_the_switch_and_its_taking_back() -> None:
    pending = KeptSchedule(schedule_id="sub_sched_1", plan="standard", scheduled_plan="commit", scheduled_by="user")

    assert applied(STANDARD_ROW, pending, "commit") == replace(COMING, version=2)
    assert applied(COMING, KeptSchedule(plan="standard"), None) == replace(STANDARD_ROW, version=2)


@pytest.mark.parametrize(
    "row", [None, replace(STANDARD_ROW, status="canceled"), replace(STANDARD_ROW, stripe_subscription_id="sub_2")]
)
def test_kc_42_a_row_that_moved_is_left_alone(row: Subscription | None) -> None:
    assert applied(row, KeptSchedule(schedule_id="sub_sched_1", plan="standard"), "commit") == row


def test_kc_46_a_failure_keeps_the_row() -> None:
    assert applied(LEAVING, None, None) == LEAVING


def test_kc_42_a_promotion_runs_on_to_the_periods_end() -> None:
    promoted = schedule_json(
        phase_json(STANDARD, NOW, STANDARD_END + DAY, discounts=[{"discount": "di_1"}]), metadata={}
    )

    driven = switched("commit", subscription=a_subscription(), create_schedule=promoted, update_schedule=TO_COMMIT)

    current, commit, _ = driven.called("update-schedule").params["phases"]
    assert (current["discounts"], commit["discounts"]) == ([{"discount": "di_1"}], "")
    assert current["end_date"] == int(add_months(NOW, 1).timestamp())
