"""What `subscription_schedule.*` does, and when following Stripe asks for the schedule (KC-40, KC-45)."""

from typing import Any

import pytest

from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.reads import SubscriptionsRead, subscriptions_read
from bursar.billing.kiloclaw.rows import Subscription, hosting_of
from bursar.billing.kiloclaw.schedule_events import schedule_event
from bursar.billing.kiloclaw.stripe_events import subscription_event
from bursar.billing.steps import StepKind
from bursar.billing.stripe.schedules import ScheduleEvent
from bursar.billing.values import replace
from tests.billing.kiloclaw.making import (
    CATALOGUE,
    COMMIT,
    DAY,
    NOW,
    SECOND,
    STANDARD,
    a_paid_row,
    a_stripe_subscription,
    an_account,
    an_event,
    event_json,
)
from tests.billing.kiloclaw.scheduled import COMMIT_END, commit_phases, schedule_json

SCHEDULED = a_paid_row(
    plan="commit",
    current_period_end=COMMIT_END,
    stripe_schedule_id="sub_sched_1",
    commit_ends_at=COMMIT_END,
    scheduled_plan="standard",
    scheduled_by="auto",
)
CLEARED = replace(SCHEDULED, version=2, stripe_schedule_id=None, scheduled_plan=None, scheduled_by=None)


def told(row: Subscription | None, status: str = "released", schedule_id: str = "sub_sched_1") -> Decision:
    schedule = schedule_json(*commit_phases(), status=status, id=schedule_id)
    body = event_json("subscription_schedule.updated", schedule, NOW - 9 * DAY, "evt_s")
    return schedule_event(an_account(row), ScheduleEvent.model_validate(body), CATALOGUE)


def row_of(decision: Decision) -> Subscription | None:
    return hosting_of(decision.account).subscription


def kinds(decision: Decision) -> list[StepKind]:
    return [step.kind for step in decision.steps]


@pytest.mark.parametrize("status", ["released", "completed", "canceled"])
def test_kc_45_an_ended_schedule_is_cleared_by_its_status_whatever_the_event_s_name_and_age(status: str) -> None:
    decision = told(SCHEDULED, status)

    assert row_of(decision) == CLEARED
    assert kinds(decision) == [StepKind.KEEP_SCHEDULE]


@pytest.mark.parametrize(
    ("row", "status", "schedule_id"),
    [
        (SCHEDULED, "active", "sub_sched_1"),
        (SCHEDULED, "released", "sub_sched_0"),
        (CLEARED, "released", "sub_sched_1"),
        (None, "released", "sub_sched_1"),
    ],
    ids=["not ended", "another", "nothing left to do", "no row"],
)
def test_kc_44_kc_45_any_other_schedule_event_does_nothing(
    row: Subscription | None, status: str, schedule_id: str
) -> None:
    decision = told(row, status, schedule_id)

    assert row_of(decision) == row
    assert kinds(decision) == []


def followed(row: Subscription | None, kind: str = "updated", at: Any = NOW + SECOND, **changes: Any) -> Decision:
    says = {"price": COMMIT, "end": COMMIT_END, **changes}
    return subscription_event(an_account(row), an_event(kind, at, **says), CATALOGUE)


def test_kc_40_a_new_commit_subscription_asks_for_its_schedule() -> None:
    decision = followed(None, "created")

    [step] = decision.steps
    assert (step.kind, step.key, step.coalesced) == (StepKind.KEEP_SCHEDULE, "keep-schedule:user:ada", True)
    assert step.payload["asked"]["subscription_id"] == "sub_1"


def test_kc_45_a_changed_price_takes_the_plan_along_and_asks_what_comes_next() -> None:
    decision = followed(SCHEDULED, price=STANDARD, schedule="sub_sched_1")

    row = row_of(decision)
    assert row is not None
    assert (row.plan, row.commit_ends_at, row.scheduled_plan, row.scheduled_by) == ("standard", None, None, None)
    assert row.stripe_schedule_id == "sub_sched_1"
    assert kinds(decision) == [StepKind.KEEP_SCHEDULE]


@pytest.mark.parametrize(
    ("row", "changes", "asks"),
    [
        (SCHEDULED, {"schedule": "sub_sched_1"}, False),
        (SCHEDULED, {"schedule": "sub_sched_2"}, True),
        (SCHEDULED, {"schedule": None}, True),
        (CLEARED, {}, True),
        (a_paid_row(), {"price": STANDARD, "end": NOW + 30 * DAY}, False),
        (a_paid_row(), {"price": STANDARD, "end": NOW + 60 * DAY, "schedule": "sub_sched_1"}, True),
        (CLEARED, {"cancel_at_period_end": True}, False),
        (CLEARED, {"status": "past_due"}, False),
        (SCHEDULED, {"schedule": "sub_sched_2", "at": NOW - DAY}, False),
    ],
    ids=["in step", "another", "gone", "commit without", "standard", "standard with", "canceling", "past due", "older"],
)
def test_kc_40_kc_45_following_asks_where_the_schedule_is_out_of_step(
    row: Subscription, changes: dict[str, Any], *, asks: bool
) -> None:
    decision = followed(row, **changes)

    assert kinds(decision) == [StepKind.KEEP_SCHEDULE] * asks


@pytest.mark.parametrize(("row", "asks"), [(CLEARED, False), (replace(CLEARED, status="past_due"), True)])
def test_kc_46_a_read_that_shows_nothing_new_does_not_ask_for_the_schedule_again(
    row: Subscription, *, asks: bool
) -> None:
    """A schedule that Stripe refuses causes a read: the two would go on for ever."""
    read = SubscriptionsRead((a_stripe_subscription(price=COMMIT, end=COMMIT_END),), row.version, NOW)

    decision = subscriptions_read(an_account(row), read, CATALOGUE, "step:1")

    assert kinds(decision) == [StepKind.KEEP_SCHEDULE] * asks
