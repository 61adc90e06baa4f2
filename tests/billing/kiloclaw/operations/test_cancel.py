"""Canceling: the schedule first, then the flag, at Stripe and then here; or nothing (KC-50, KC-51, KC-53)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest

from bursar.billing.errors import CallRefused, Refused
from bursar.billing.kiloclaw.operations.cancel import Cancellation, apply, cancel, plan
from bursar.billing.kiloclaw.rows import Subscription, hosting_of
from bursar.billing.operations import Ended, Failure, Journal, Operations, advance
from bursar.billing.steps import StepKind
from tests.billing.kiloclaw.making import DAY, NOW, a_paid_row, a_trial, subscription_json
from tests.billing.kiloclaw.operations.driving import Driven, an_account, drive, facts

ASKED = Cancellation(subscription_id="sub_1", row_version=1)
SCHEDULED = {"stripe_schedule_id": "sub_sched_1", "scheduled_plan": "standard", "scheduled_by": "auto"}
SCHEDULE: Mapping[str, Any] = {
    "id": "sub_sched_1",
    "status": "active",
    "subscription": "sub_1",
    "metadata": {"type": "kiloclaw", "origin": "auto", "target": "standard"},
}
STANDING: Mapping[str, Any] = {
    "read-subscription": subscription_json(),
    "set-flag": subscription_json(cancel_at_period_end=True),
}


def canceled(**answers: Any) -> Driven:
    named = {name.replace("_", "-"): answer for name, answer in answers.items()}
    return drive(lambda: plan(ASKED), {**STANDING, **named})


def a_pure_credit_row(**changes: Any) -> Subscription:
    return a_paid_row(
        **{"payment_source": "credits", "stripe_subscription_id": None, "credit_renewal_at": NOW + 30 * DAY, **changes}
    )


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (None, "no_subscription"),
        (a_trial(), "no_subscription"),
        (a_paid_row(status="canceled", cancel_at_period_end=True), "no_subscription"),
        (a_paid_row(status="unpaid", past_due_since=NOW), "no_subscription"),
        (a_paid_row(cancel_at_period_end=True), "already_canceling"),
        (a_pure_credit_row(cancel_at_period_end=True), "already_canceling"),
    ],
)
def test_kc_50_who_may_not_cancel(row: Subscription | None, code: str) -> None:
    with pytest.raises(Refused) as refused:
        cancel(an_account(row), "c1")
    assert (refused.value.code, refused.value.status) == (code, 400)


@pytest.mark.parametrize("row", [a_paid_row(), a_paid_row(status="past_due", past_due_since=NOW)])
def test_kc_50_an_active_and_a_past_due_subscription_may_be_canceled(row: Subscription) -> None:
    decision = cancel(an_account(row), "c1")
    assert [(step.kind, step.payload["asked"]) for step in decision.steps] == [
        (StepKind.OPERATION, ASKED.model_dump(mode="json"))
    ]
    assert hosting_of(decision.account).subscription == row, "nothing changes before Stripe was asked"


def test_kc_50_a_second_click_is_refused() -> None:
    with pytest.raises(Refused, match="under way"):
        cancel(an_account(a_paid_row(), under_way=Operations(("operation:c0",))), "c1")


def test_kc_50_the_flag_is_set_at_stripe() -> None:
    driven = canceled()
    assert driven.names == ["read-subscription", "set-flag"]
    assert driven.called("set-flag").params == {"cancel_at_period_end": True}
    ends_at = (NOW + 30 * DAY).isoformat()
    assert driven.ended.result == {"cancel_at_period_end": True, "ends_at": ends_at}


@pytest.mark.parametrize(
    ("status", "commit_ends_at", "trial_end"),
    [
        ("active", NOW + 200 * DAY, int((NOW + 200 * DAY).timestamp())),  # renewed: paid beyond the period
        ("active", NOW + 30 * DAY, None),
        ("trialing", NOW + 200 * DAY, None),  # not begun: nothing is paid yet
        ("active", None, None),
    ],
)
def test_kc_51_access_lasts_as_long_as_a_renewed_commitment_is_paid(
    status: str, commit_ends_at: datetime | None, trial_end: int | None
) -> None:
    asked = Cancellation(subscription_id="sub_1", row_version=1, commit_ends_at=commit_ends_at)
    answers = {"read-subscription": subscription_json(status=status), "carry-to-paid-end": subscription_json()}
    driven = drive(lambda: plan(asked), {**STANDING, **answers})
    carried = ["carry-to-paid-end"] if trial_end else []
    assert driven.names == ["read-subscription", *carried, "set-flag"]
    if trial_end:
        params = {"trial_end": trial_end, "proration_behavior": "none"}
        assert driven.called("carry-to-paid-end").params == params


def test_kc_50_the_schedule_is_released_before() -> None:
    driven = canceled(
        read_subscription=subscription_json(schedule="sub_sched_1"), schedule=SCHEDULE, release_schedule=SCHEDULE
    )
    assert driven.names == ["read-subscription", "schedule", "release-schedule", "set-flag"]
    assert driven.called("release-schedule").target == "sub_sched_1"


def test_kc_50_a_foreign_schedule_stops_it() -> None:
    foreign = {**SCHEDULE, "metadata": {"team": "another"}}
    driven = canceled(read_subscription=subscription_json(schedule="sub_sched_1"), schedule=foreign)
    assert driven.ended.failure
    assert (driven.failed_with, driven.ended.failure.status) == ("foreign_schedule", 409)
    assert driven.names == ["read-subscription", "schedule"]


def test_kc_46_a_schedule_that_cannot_be_released_aborts() -> None:
    driven = canceled(
        read_subscription=subscription_json(schedule="sub_sched_1"),
        schedule=SCHEDULE,
        release_schedule=CallRefused("lock_timeout", ""),
        schedule_after_refusal=SCHEDULE,
    )
    assert driven.failed_with == "stripe_refused"
    assert "set-flag" not in driven.names


@pytest.mark.parametrize("pending", [{"cancel_at_period_end": True}, {"cancel_at": int((NOW + DAY).timestamp())}])
def test_kc_50_a_cancellation_that_stands_at_stripe_is_done(pending: Mapping[str, Any]) -> None:
    driven = canceled(read_subscription=subscription_json(**pending))
    assert driven.names == ["read-subscription"]
    assert driven.ended.result
    ends_at = NOW + (DAY if "cancel_at" in pending else 30 * DAY)
    assert driven.ended.result["ends_at"] == ends_at.isoformat()


@pytest.mark.parametrize("status", ["canceled", "incomplete_expired"])
def test_kc_50_one_that_ended_meanwhile_is_refused(status: str) -> None:
    assert canceled(read_subscription=subscription_json(status=status)).failed_with == "no_subscription"


def test_kc_50_the_flag_has_an_undo() -> None:
    driven = canceled()
    journal = Journal().answered(driven.called("read-subscription"), subscription_json())
    journal = journal.answered(driven.called("set-flag"), subscription_json(cancel_at_period_end=True))
    undo = advance(lambda: plan(ASKED), journal.failing(Failure("operation_abandoned", "")))
    assert (undo.target, undo.params) == ("sub_1", {"cancel_at_period_end": False})  # type: ignore[union-attr]


def test_kc_50_then_here_with_the_schedules_fields_cleared() -> None:
    account = an_account(a_paid_row(plan="commit", commit_ends_at=NOW + 30 * DAY, **SCHEDULED))
    decision = apply(account, ASKED, canceled().ended, facts())
    row = hosting_of(decision.account).subscription

    assert row
    assert (row.cancel_at_period_end, row.status, row.version) == (True, "active", 2)
    assert (row.stripe_schedule_id, row.scheduled_plan, row.scheduled_by) == (None, None, None)
    assert row.commit_ends_at == NOW + 30 * DAY
    assert decision.reason == "canceled by the user"
    assert decision.steps == ()


def test_kc_50_a_row_that_moved_meanwhile_is_read_too() -> None:
    moved = an_account(a_paid_row(version=2, cancel_at_period_end=True))
    decision = apply(moved, ASKED, canceled().ended, facts())
    assert hosting_of(decision.account).subscription == a_paid_row(version=2, cancel_at_period_end=True)
    assert [step.kind for step in decision.steps] == [StepKind.READ_SUBSCRIPTIONS]


@pytest.mark.parametrize(
    "row",
    [
        None,
        a_paid_row(stripe_subscription_id="sub_2"),
        a_paid_row(status="canceled"),
    ],
)
def test_kc_50_a_row_that_ended_or_is_bound_to_another_stays(row: Subscription | None) -> None:
    account = an_account(row)
    decision = apply(account, ASKED, canceled().ended, facts())
    assert decision.account is account
    assert [step.kind for step in decision.steps] == [StepKind.READ_SUBSCRIPTIONS]


def test_kc_50_a_schedule_released_in_vain_is_made_again() -> None:
    driven = canceled(
        read_subscription=subscription_json(schedule="sub_sched_1"),
        schedule=SCHEDULE,
        release_schedule=SCHEDULE,
        set_flag=CallRefused("parameter_invalid", ""),
    )
    account = an_account(a_paid_row(plan="commit", **SCHEDULED))
    decision = apply(account, ASKED, driven.ended, facts())

    assert driven.failed_with == "stripe_refused"
    assert decision.account is account
    assert [step.kind for step in decision.steps] == [StepKind.KEEP_SCHEDULE]


def test_kc_50_a_failure_without_a_schedule_leaves_everything() -> None:
    account = an_account(a_paid_row())
    decision = apply(account, ASKED, Ended(None, Failure("stripe_refused", "", 502)), facts())
    assert (decision.account, decision.steps) == (account, ())


def test_kc_53_a_pure_credit_row_is_canceled_here_only() -> None:
    decision = cancel(an_account(a_pure_credit_row()), "c1")
    row = hosting_of(decision.account).subscription

    assert row
    assert row.cancel_at_period_end
    assert decision.steps == ()
    assert decision.result == {"cancel_at_period_end": True, "ends_at": (NOW + 30 * DAY).isoformat()}


def test_kc_51_a_commitment_from_credits_that_is_renewed_ahead_ends_where_it_is_paid_to() -> None:
    row = a_pure_credit_row(plan="commit", commit_ends_at=NOW + 210 * DAY)
    decision = cancel(an_account(row), "c1")

    assert decision.result == {"cancel_at_period_end": True, "ends_at": (NOW + 210 * DAY).isoformat()}
