"""What the billing page is told, state by state (KC-100, KC-110…KC-113)."""

from datetime import datetime, timedelta

import pytest

from bursar.billing.kiloclaw.rows import Hosting, Instance, Subscription
from bursar.billing.kiloclaw.status import banner, billing_status, lock_reason, refusal_reason
from bursar.billing.values import replace
from tests.billing.kiloclaw.making import CATALOGUE, DAY, HOUR, NOW, SECOND, a_paid_row, a_trial, an_instance

UNTIL = CATALOGUE.kiloclaw.earlybird.access_until
ALIVE = an_instance()
GONE = an_instance(desired_state="destroyed", generation=2, destroyed_at=NOW)
EARLYBIRD = Hosting(earlybird_payment_id="pi_1")
DUNNING = {"status": "past_due", "past_due_since": NOW - DAY}
SUSPENDED = {"suspended_at": NOW, "destruction_deadline": NOW + 7 * DAY}


def hosting(row: Subscription | None = None, *instances: Instance) -> Hosting:
    return Hosting(subscription=row, instances=instances)


def trial_ending(after: timedelta) -> Hosting:
    return hosting(a_trial(trial_started_at=NOW - 30 * DAY, trial_ends_at=NOW + after))


@pytest.mark.parametrize(
    ("standing", "now", "expected"),
    [
        (hosting(a_paid_row(**DUNNING)), NOW, "subscription_past_due"),
        (hosting(a_paid_row(**DUNNING | {"status": "unpaid"})), NOW, "subscription_past_due"),
        (hosting(a_paid_row(cancel_at_period_end=True)), NOW, "subscription_canceling"),
        (hosting(a_paid_row()), NOW, "subscribed"),
        (trial_ending(-HOUR), NOW, "trial_expires_today"),
        (trial_ending(DAY - SECOND), NOW, "trial_expires_today"),
        (trial_ending(DAY), NOW, "trial_ending_very_soon"),
        (trial_ending(3 * DAY - SECOND), NOW, "trial_ending_very_soon"),
        (trial_ending(3 * DAY), NOW, "trial_ending_soon"),
        (trial_ending(6 * DAY - SECOND), NOW, "trial_ending_soon"),
        (trial_ending(6 * DAY), NOW, "trial_active"),
        (EARLYBIRD, UNTIL - 14 * DAY, "earlybird_active"),
        (EARLYBIRD, UNTIL - 14 * DAY + SECOND, "earlybird_ending_soon"),
        (EARLYBIRD, UNTIL, "none"),
        (replace(EARLYBIRD, subscription=a_paid_row(status="canceled")), NOW, "earlybird_active"),
        (hosting(a_paid_row(status="canceled")), NOW, "none"),
        (hosting(), NOW, "none"),
    ],
)
def test_kc_111_the_first_banner_that_fits(standing: Hosting, now: datetime, expected: str) -> None:
    assert banner(standing, CATALOGUE, now) == expected


@pytest.mark.parametrize(
    ("standing", "expected"),
    [
        (hosting(a_trial(status="canceled"), ALIVE), "trial_expired_instance_alive"),
        (hosting(a_trial(status="canceled"), GONE), "trial_expired_instance_destroyed"),
        (trial_ending(-HOUR), "trial_expired_instance_destroyed"),
        (hosting(a_paid_row(status="canceled"), ALIVE), "subscription_expired_instance_alive"),
        (hosting(a_paid_row(status="canceled"), GONE), "subscription_expired_instance_destroyed"),
        (hosting(a_paid_row(status="canceled")), "subscription_expired_instance_destroyed"),
        (hosting(a_paid_row(**DUNNING | SUSPENDED), ALIVE), "past_due_grace_exceeded"),
        (hosting(a_paid_row(**DUNNING | {"status": "unpaid"}), ALIVE), "past_due_grace_exceeded"),
        (hosting(None, ALIVE), "no_access"),
        (hosting(None, GONE), "no_access"),
        (hosting(), None),
        (hosting(a_paid_row()), None),
        (hosting(a_paid_row(**DUNNING)), None),
        (hosting(a_paid_row(payment_source="credits")), None),
    ],
)
def test_kc_112_the_reason_of_a_lock(standing: Hosting, expected: str | None) -> None:
    assert lock_reason(standing, CATALOGUE, NOW) == expected


def test_kc_112_an_earlybird_whose_date_has_passed_is_told_so() -> None:
    assert lock_reason(EARLYBIRD, CATALOGUE, UNTIL - SECOND) is None
    assert lock_reason(EARLYBIRD, CATALOGUE, UNTIL) == "earlybird_expired"
    paid = replace(EARLYBIRD, subscription=a_paid_row(status="canceled"))
    assert lock_reason(paid, CATALOGUE, UNTIL) == "subscription_expired_instance_destroyed"


def test_kc_100_a_credit_funded_row_waits_for_its_settlement_without_a_lock() -> None:
    waiting = hosting(a_paid_row(payment_source="credits"))
    status = billing_status(waiting, CATALOGUE, NOW)

    assert (status["hasAccess"], status["activation"], status["lockReason"]) == (False, "pending_settlement", None)
    assert refusal_reason(waiting, CATALOGUE, NOW) == "pending_settlement"
    settled = hosting(a_paid_row(payment_source="credits", settled_at=NOW))
    assert billing_status(settled, CATALOGUE, NOW)["activation"] is None


def test_kc_110_a_new_user_is_eligible_and_has_no_sections() -> None:
    status = billing_status(hosting(), CATALOGUE, NOW)

    assert (status["hasAccess"], status["accessReason"], status["trialEligible"]) == (False, None, True)
    assert [status[name] for name in ("trial", "subscription", "earlybird", "instance")] == [None] * 4
    assert refusal_reason(hosting(), CATALOGUE, NOW) == "no_access"


@pytest.mark.parametrize(
    ("left", "days", "expired"), [(30 * DAY, 30, False), (DAY - SECOND, 0, False), (-DAY, 0, True)]
)
def test_kc_110_days_remaining_are_floored_and_never_negative(left: timedelta, days: int, *, expired: bool) -> None:
    trial = billing_status(trial_ending(left), CATALOGUE, NOW)["trial"]
    assert (trial["daysRemaining"], trial["expired"]) == (days, expired)


def test_kc_110_an_instance_is_shown_with_its_suspension() -> None:
    row = a_trial(status="canceled", instance_id="inst-1", **SUSPENDED)
    stopping = ALIVE.wanting("stopped")
    instance = billing_status(hosting(row, stopping), CATALOGUE, NOW)["instance"]

    assert (instance["id"], instance["desiredState"], instance["settled"]) == ("inst-1", "stopped", False)
    assert not instance["destroyed"]
    assert instance["suspendedAt"] == NOW.isoformat()
    assert instance["destructionDeadline"] == (NOW + 7 * DAY).isoformat()


def test_kc_110_the_live_instance_is_shown_else_the_last_one() -> None:
    live = an_instance(id="inst-2", created_at=NOW - DAY)
    assert billing_status(hosting(None, GONE, live), CATALOGUE, NOW)["instance"]["id"] == "inst-2"
    older = replace(GONE, id="inst-0", created_at=NOW - DAY)
    assert billing_status(hosting(None, older, GONE), CATALOGUE, NOW)["instance"]["id"] == "inst-1"


def test_kc_110_earlybird_is_shown_with_its_days() -> None:
    earlybird = billing_status(EARLYBIRD, CATALOGUE, UNTIL - 10 * DAY)["earlybird"]
    assert earlybird == {"purchased": True, "expiresAt": UNTIL.isoformat(), "daysRemaining": 10}


def test_kc_113_an_automatic_transition_is_not_a_switch_of_the_user() -> None:
    commit = {"plan": "commit", "commit_ends_at": NOW + 90 * DAY, "scheduled_plan": "standard"}
    automatic = _subscription(a_paid_row(**commit, scheduled_by="auto"))
    assert automatic["automaticTransition"] == {"plan": "standard", "at": (NOW + 90 * DAY).isoformat()}
    assert automatic["scheduledPlan"] is None

    asked_for = _subscription(a_paid_row(**commit, scheduled_by="user"))
    assert (asked_for["automaticTransition"], asked_for["scheduledPlan"]) == (None, "standard")


def test_kc_113_funding_is_told_by_the_stripe_id() -> None:
    assert _subscription(a_paid_row())["has_stripe_funding"]
    credit = a_paid_row(payment_source="credits", stripe_subscription_id=None, credit_renewal_at=NOW + 30 * DAY)
    shown = _subscription(credit)
    assert not shown["has_stripe_funding"]
    assert shown["nextRenewalAt"] == (NOW + 30 * DAY).isoformat()


def _subscription(row: Subscription) -> dict[str, object]:
    section: dict[str, object] = billing_status(hosting(row), CATALOGUE, NOW)["subscription"]
    return section
