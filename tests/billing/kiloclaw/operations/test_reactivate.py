"""Reactivating: the flag is cleared, a commit plan has its schedule again; or the flag is set again (KC-52, KC-53)."""

from collections.abc import Mapping
from typing import Any

import pytest

from bursar.billing.errors import CallRefused, Refused
from bursar.billing.kiloclaw.operations.cancel import cancel
from bursar.billing.kiloclaw.operations.reactivate import Reactivation, apply, plan, reactivate
from bursar.billing.kiloclaw.phases import ScheduleTerms
from bursar.billing.kiloclaw.rows import Subscription, hosting_of
from bursar.billing.kiloclaw.status import billing_status
from bursar.billing.operations import Ended, Failure
from bursar.billing.steps import StepKind
from tests.billing.kiloclaw.making import CATALOGUE, COMMIT, DAY, NOW, STANDARD, a_paid_row, a_trial, subscription_json
from tests.billing.kiloclaw.operations.driving import Driven, an_account, drive, facts

ASKED = Reactivation(
    subscription_id="sub_1", terms=ScheduleTerms(user_id="ada", prices=CATALOGUE.prices), row_version=1
)
CANCELING = a_paid_row(cancel_at_period_end=True)
COMMIT_END = NOW + 180 * DAY
STANDING: Mapping[str, Any] = {
    "read-subscription": subscription_json(cancel_at_period_end=True),
    "clear-flag": subscription_json(),
}
COMMITTED: Mapping[str, Any] = {
    "read-subscription": subscription_json(price=COMMIT, end=COMMIT_END, cancel_at_period_end=True),
    "clear-flag": subscription_json(price=COMMIT, end=COMMIT_END),
}


def a_phase(price: str, start: Any, end: Any) -> dict[str, Any]:
    return {
        "start_date": int(start.timestamp()),
        "end_date": int(end.timestamp()),
        "items": [{"price": price, "quantity": 1}],
    }


def a_schedule(*phases: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    bounds = {name: phases[0][name] for name in ("start_date", "end_date")}
    return {
        "id": "sub_sched_1",
        "status": "active",
        "subscription": "sub_1",
        "metadata": {},
        "phases": list(phases),
        "current_phase": bounds,
        **changes,
    }


RUNNING = a_phase(COMMIT, NOW, COMMIT_END)
OURS = {"type": "kiloclaw", "userId": "ada", "origin": "auto", "plan": "standard"}
HALF_MADE = a_schedule(RUNNING)
WHOLE = a_schedule(RUNNING, a_phase(STANDARD, COMMIT_END, COMMIT_END + 30 * DAY), metadata=OURS)


def reactivated(standing: Mapping[str, Any] = STANDING, **answers: Any) -> Driven:
    named = {name.replace("_", "-"): answer for name, answer in answers.items()}
    return drive(lambda: plan(ASKED), {**standing, **named})


@pytest.mark.parametrize(
    "row", [None, a_trial(), a_paid_row(), a_paid_row(status="canceled", cancel_at_period_end=True)]
)
def test_kc_52_nothing_to_reactivate_is_refused(row: Subscription | None) -> None:
    with pytest.raises(Refused) as refused:
        reactivate(an_account(row), CATALOGUE, "c1")
    assert (refused.value.code, refused.value.status) == ("not_canceling", 400)


def test_kc_52_a_canceling_subscription_is_asked_for() -> None:
    [step] = reactivate(an_account(CANCELING), CATALOGUE, "c1").steps
    assert step.payload["operation"] == "kiloclaw-reactivate"
    assert Reactivation.model_validate(step.payload["asked"]) == ASKED


def test_kc_52_the_flag_is_cleared_at_stripe() -> None:
    driven = reactivated()
    assert driven.names == ["read-subscription", "clear-flag"]
    assert driven.called("clear-flag").params == {"cancel_at_period_end": False}
    assert driven.ended.result == {"cancel_at_period_end": False, "schedule": None}


def test_kc_52_an_instant_of_cancellation_is_cleared_too() -> None:
    ends_at = int((NOW + 9 * DAY).timestamp())
    driven = reactivated(read_subscription=subscription_json(cancel_at=ends_at), clear_cancel_at=subscription_json())
    cleared = driven.called("clear-cancel-at")

    assert driven.names == ["read-subscription", "clear-cancel-at"]
    assert cleared.params == {"cancel_at": ""}
    assert cleared.undo
    assert cleared.undo.params == {"cancel_at": ends_at}


def test_kc_52_a_flag_that_is_cleared_at_stripe_already_is_done() -> None:
    assert reactivated(read_subscription=subscription_json()).names == ["read-subscription"]


def test_kc_52_one_that_ended_meanwhile_is_refused() -> None:
    driven = reactivated(read_subscription=subscription_json(status="canceled", cancel_at_period_end=True))
    assert driven.failed_with == "not_canceling"


def test_kc_52_a_commit_plan_gets_its_automatic_schedule_back() -> None:
    driven = reactivated(COMMITTED, create_schedule=HALF_MADE, update_schedule=WHOLE)
    account = an_account(a_paid_row(plan="commit", cancel_at_period_end=True))
    row = hosting_of(apply(account, ASKED, driven.ended, facts()).account).subscription

    assert driven.names == ["read-subscription", "clear-flag", "create-schedule", "update-schedule"]
    assert row
    assert not row.cancel_at_period_end
    assert (row.stripe_schedule_id, row.scheduled_plan, row.scheduled_by) == ("sub_sched_1", "standard", "auto")
    assert row.commit_ends_at == COMMIT_END


def test_kc_52_a_past_due_commit_plan_has_none_before_it_is_paid() -> None:
    overdue = subscription_json(price=COMMIT, status="past_due")
    assert reactivated(COMMITTED, clear_flag=overdue).names == ["read-subscription", "clear-flag"]


@pytest.mark.parametrize(
    ("failing", "undone"),
    [
        ({"create_schedule": CallRefused("parameter_invalid", ""), "subscription_after_refusal": None}, 1),
        ({"create_schedule": HALF_MADE, "update_schedule": CallRefused("parameter_invalid", "")}, 2),
    ],
)
def test_kc_52_without_its_schedule_the_flag_is_set_again(failing: Mapping[str, Any], undone: int) -> None:
    answers = {name: COMMITTED["clear-flag"] if answer is None else answer for name, answer in failing.items()}
    driven = reactivated(COMMITTED, **answers)
    undos = driven.calls[-undone:]

    assert driven.failed_with == "stripe_refused"
    assert [call.name.startswith("undo:") for call in undos] == [True] * undone
    assert (undos[-1].target, undos[-1].params) == ("sub_1", {"cancel_at_period_end": True})


def test_kc_52_a_foreign_schedule_is_an_error_and_the_flag_is_set_again() -> None:
    foreign = a_schedule(RUNNING, metadata={"team": "another"})
    driven = reactivated(COMMITTED, clear_flag={**COMMITTED["clear-flag"], "schedule": "sub_sched_1"}, schedule=foreign)
    assert driven.failed_with == "foreign_schedule"
    assert driven.calls[-1].params == {"cancel_at_period_end": True}


def test_kc_52_then_here() -> None:
    decision = apply(an_account(CANCELING), ASKED, reactivated().ended, facts())
    row = hosting_of(decision.account).subscription

    assert row == a_paid_row(version=2)
    assert (decision.reason, decision.steps) == ("reactivated by the user", ())


def test_kc_52_a_row_that_moved_meanwhile_is_read_too() -> None:
    account = an_account(a_paid_row(version=2))
    decision = apply(account, ASKED, reactivated().ended, facts())
    assert decision.account is account
    assert [step.kind for step in decision.steps] == [StepKind.READ_SUBSCRIPTIONS]


@pytest.mark.parametrize(
    "row",
    [
        None,
        a_paid_row(stripe_subscription_id="sub_2", cancel_at_period_end=True),
        a_paid_row(status="canceled", cancel_at_period_end=True),
    ],
)
def test_kc_52_a_row_that_ended_or_is_bound_to_another_stays(row: Subscription | None) -> None:
    account = an_account(row)
    decision = apply(account, ASKED, reactivated().ended, facts())
    assert decision.account is account
    assert [step.kind for step in decision.steps] == [StepKind.READ_SUBSCRIPTIONS]


def test_kc_52_a_failure_leaves_the_row() -> None:
    account = an_account(CANCELING)
    decision = apply(account, ASKED, Ended(None, Failure("stripe_refused", "", 502)), facts())
    assert decision.account is account


def test_kc_53_a_pure_credit_row_is_reactivated_here_only() -> None:
    row = a_paid_row(
        payment_source="credits",
        stripe_subscription_id=None,
        credit_renewal_at=NOW + 30 * DAY,
        cancel_at_period_end=True,
    )
    decision = reactivate(an_account(row), CATALOGUE, "c1")
    after = hosting_of(decision.account).subscription

    assert after
    assert not after.cancel_at_period_end
    assert (decision.steps, decision.result) == ((), {"cancel_at_period_end": False})


def test_kc_52_a_commitment_from_credits_gets_its_automatic_transition_back() -> None:
    enrolled = a_paid_row(
        plan="commit",
        payment_source="credits",
        stripe_subscription_id=None,
        credit_renewal_at=COMMIT_END,
        current_period_end=COMMIT_END,
        commit_ends_at=COMMIT_END,
        scheduled_plan="standard",
        scheduled_by="auto",
    )
    canceled = cancel(an_account(enrolled), "c1")
    after = hosting_of(reactivate(canceled.account, CATALOGUE, "c2").account)

    section = billing_status(after, CATALOGUE, NOW)["subscription"]
    assert section["automaticTransition"] == {"plan": "standard", "at": COMMIT_END.isoformat()}
