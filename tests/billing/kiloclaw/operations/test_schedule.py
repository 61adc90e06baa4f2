"""Schedules: made, adopted, completed, followed, released (KC-40, KC-41, KC-45, KC-46)."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from bursar.billing.calendar import add_months
from bursar.billing.catalogue import Prices
from bursar.billing.errors import CallRefused, Retryable
from bursar.billing.kiloclaw.operations.schedule import KEEPING, apply_kept, keep_schedule
from bursar.billing.kiloclaw.phases import KeptSchedule, ScheduleTerms
from bursar.billing.kiloclaw.rows import Subscription, hosting_of
from bursar.billing.kiloclaw.scheduling import KeepAsked, keep_steps, terms_of
from bursar.billing.operations import Ended
from bursar.billing.steps import StepKind
from bursar.billing.stripe.calls import Method
from bursar.billing.values import replace
from tests.billing.kiloclaw.making import CATALOGUE, COMMIT, NOW, STANDARD, a_paid_row, subscription_json
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

ASKED = KeepAsked(subscription_id="sub_1", terms=terms())
MADE = schedule_json(commit_phases()[0], metadata={})
WRITTEN = schedule_json(*commit_phases())
REFUSED = CallRefused("invalid_request_error", "Stripe: refused")
COMMIT_ROW = a_paid_row(plan="commit", current_period_end=COMMIT_END)
KEPT = KeptSchedule(
    schedule_id="sub_sched_1", plan="commit", commit_ends_at=COMMIT_END, scheduled_plan="standard", scheduled_by="auto"
)


def a_subscription(price: str = COMMIT, **changes: Any) -> dict[str, Any]:
    return subscription_json(price=price, end=COMMIT_END if price == COMMIT else STANDARD_END, **changes)


def kept_with(asked: KeepAsked = ASKED, **answers: Mapping[str, Any] | CallRefused) -> Driven:
    """Drive the plan; call names with underscores for dashes."""
    named = {name.replace("_", "-"): answer for name, answer in answers.items()}
    return drive(lambda: keep_schedule(asked), named)


def result_of(driven: Driven) -> KeptSchedule:
    return KeptSchedule.model_validate(driven.ended.result)


def test_kc_40_a_commit_subscription_gets_its_schedule() -> None:
    driven = kept_with(subscription=a_subscription(), create_schedule=MADE, update_schedule=WRITTEN)

    created, updated = driven.called("create-schedule"), driven.called("update-schedule")
    assert result_of(driven) == KEPT
    assert created.params == {"from_subscription": "sub_1"}
    assert updated.target == "sub_sched_1"
    assert updated.params["metadata"] == OURS
    assert updated.params["end_behavior"] == "release"
    assert updated.params["proration_behavior"] == "none"
    assert [phase["items"][0]["price"] for phase in updated.params["phases"]] == [COMMIT, STANDARD]


def test_kc_41_our_own_schedule_is_adopted() -> None:
    driven = kept_with(subscription=a_subscription(schedule="sub_sched_1"), schedule=WRITTEN)

    assert result_of(driven) == KEPT
    assert driven.names == ["subscription", "schedule"]


def test_kc_41_a_half_made_schedule_is_completed() -> None:
    driven = kept_with(subscription=a_subscription(schedule="sub_sched_1"), schedule=MADE, update_schedule=WRITTEN)

    assert result_of(driven) == KEPT
    assert driven.names == ["subscription", "schedule", "update-schedule"]


def test_kc_41_another_s_schedule_is_looked_at_and_left_alone() -> None:
    foreign = schedule_json(*commit_phases(), metadata={"made": "by hand"})

    driven = kept_with(subscription=a_subscription(schedule="sub_sched_1"), schedule=foreign)

    assert driven.names == ["subscription", "schedule"]
    assert (result_of(driven).schedule_id, result_of(driven).commit_ends_at) == (None, COMMIT_END)


@pytest.mark.parametrize("theirs", [MADE, WRITTEN], ids=["half made", "written"])
def test_kc_41_a_race_leaves_one_schedule_and_both_adopt_it(theirs: dict[str, Any]) -> None:
    driven = kept_with(
        subscription=a_subscription(),
        create_schedule=REFUSED,
        subscription_after_refusal=a_subscription(schedule="sub_sched_1"),
        schedule_of_another=theirs,
        update_schedule=WRITTEN,
    )

    assert result_of(driven) == KEPT
    assert [call.method for call in driven.calls].count(Method.CREATE_SCHEDULE) == 1


def test_kc_41_a_refusal_without_a_race_ends_it() -> None:
    driven = kept_with(
        subscription=a_subscription(), create_schedule=REFUSED, subscription_after_refusal=a_subscription()
    )

    assert driven.failed_with == "stripe_refused"


def test_kc_46_a_schedule_is_released_when_its_phases_are_refused() -> None:
    driven = kept_with(subscription=a_subscription(), create_schedule=MADE, update_schedule=REFUSED)

    undo = driven.calls[-1]
    assert driven.failed_with == "stripe_refused"
    assert (undo.method, undo.target) == (Method.RELEASE_SCHEDULE, "sub_sched_1")


def test_kc_45_a_schedule_in_its_last_phase_is_released() -> None:
    last = schedule_json(*commit_phases(), running=1)
    over = schedule_json(*commit_phases(), running=1, status="released")

    driven = kept_with(
        subscription=a_subscription(STANDARD, schedule="sub_sched_1"), schedule=last, release_schedule=over
    )

    assert driven.names[-1] == "release-schedule"
    assert result_of(driven) == KeptSchedule(plan="standard")


@pytest.mark.parametrize(("status", "failure"), [("released", None), ("completed", None), ("active", "stripe_refused")])
def test_kc_46_already_ended_counts_as_released(status: str, failure: str | None) -> None:
    driven = kept_with(
        subscription=a_subscription(STANDARD, schedule="sub_sched_1"),
        schedule=schedule_json(*commit_phases(), running=1),
        release_schedule=REFUSED,
        schedule_after_refusal=schedule_json(*commit_phases(), running=1, status=status),
    )

    assert driven.failed_with == failure


def test_kc_45_between_two_phases_it_is_looked_at_again() -> None:
    """Stripe changes the price first: what the schedule says next is what runs already."""
    with pytest.raises(Retryable):
        kept_with(subscription=a_subscription(STANDARD, schedule="sub_sched_1"), schedule=WRITTEN)


@pytest.mark.parametrize(
    "subscription",
    [
        a_subscription(STANDARD),
        a_subscription(cancel_at_period_end=True),
        a_subscription(cancel_at=int(COMMIT_END.timestamp())),
        a_subscription(status="past_due"),
        a_subscription(status="canceled"),
    ],
    ids=["standard", "canceling", "canceling at", "past due", "ended"],
)
def test_kc_40_only_a_commit_plan_that_runs_and_stays_gets_a_schedule(subscription: dict[str, Any]) -> None:
    driven = kept_with(subscription=subscription)

    assert driven.names == ["subscription"]
    assert result_of(driven).schedule_id is None


def test_kc_47_more_paid_months_than_the_schedule_knows_are_written_into_it() -> None:
    paid_until = add_months(COMMIT_END, 6)
    longer = schedule_json(
        commit_phases()[0],
        phase_json(COMMIT, COMMIT_END, paid_until),
        phase_json(STANDARD, paid_until, add_months(paid_until, 1)),
    )

    driven = kept_with(
        ASKED.model_copy(update={"terms": terms(paid_until)}),
        subscription=a_subscription(schedule="sub_sched_1"),
        schedule=WRITTEN,
        update_schedule=longer,
    )

    assert driven.called("update-schedule").params["phases"][1]["trial"] is True
    assert result_of(driven).commit_ends_at == paid_until


def applied(row: Subscription, kept: KeptSchedule | None) -> tuple[Subscription | None, set[StepKind]]:
    ended = Ended(kept.model_dump(mode="json") if kept else None)
    decision = apply_kept(an_account(row), ASKED, ended, facts())
    return hosting_of(decision.account).subscription, {step.kind for step in decision.steps}


def test_kc_40_the_row_records_its_schedule() -> None:
    row, steps = applied(COMMIT_ROW, KEPT)

    assert row == replace(
        COMMIT_ROW,
        version=2,
        stripe_schedule_id="sub_sched_1",
        commit_ends_at=COMMIT_END,
        scheduled_plan="standard",
        scheduled_by="auto",
    )
    assert steps == set()


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        (COMMIT_ROW, None),
        (replace(COMMIT_ROW, stripe_subscription_id="sub_2"), KEPT),
        (replace(COMMIT_ROW, status="canceled"), KEPT),
    ],
    ids=["failed", "bound to another", "ended"],
)
def test_kc_46_a_row_that_moved_keeps_its_fields(row: Subscription, kept: KeptSchedule | None) -> None:
    assert applied(row, kept) == (row, set())


def test_kc_45_a_row_of_another_plan_is_read_and_never_changed_by_a_schedule() -> None:
    row, steps = applied(a_paid_row(), KEPT)

    assert row == a_paid_row(version=2, stripe_schedule_id="sub_sched_1")
    assert steps == {StepKind.READ_SUBSCRIPTIONS}


def test_kc_45_after_the_switch_what_comes_next_comes_by_itself() -> None:
    arrived = schedule_json(*switch_phases(), running=1, metadata=SWITCHING)
    driven = kept_with(subscription=a_subscription(schedule="sub_sched_1"), schedule=arrived)

    row, _ = applied(replace(COMMIT_ROW, stripe_schedule_id="sub_sched_1"), result_of(driven))

    assert row is not None
    assert (row.plan, row.commit_ends_at) == ("commit", add_months(STANDARD_END, 6))
    assert (row.scheduled_plan, row.scheduled_by) == ("standard", "auto")


@pytest.mark.parametrize("commit_ends_at", [None, NOW + timedelta(days=200)])
def test_kc_40_the_step_asks_for_what_the_operation_reads(commit_ends_at: datetime | None) -> None:
    prices = CATALOGUE.prices.model_copy(update={"earlybird_coupon_id": "coupon_1", "billing_starts_at": NOW})
    catalogue = CATALOGUE.model_copy(update={"prices": prices})
    row = a_paid_row(plan="commit", stripe_subscription_id="sub_1", commit_ends_at=commit_ends_at)

    (step,) = keep_steps(an_account(row), row, catalogue)

    told = json.loads(json.dumps(step.payload))
    asked = KeepAsked(subscription_id="sub_1", terms=terms_of(row, catalogue))
    assert told["operation"] == KEEPING.name
    assert told["asked"]["terms"].keys() == ScheduleTerms.model_fields.keys()
    assert told["asked"]["terms"]["prices"].keys() == Prices.model_fields.keys()
    assert KeepAsked.model_validate(told["asked"]) == asked
