from datetime import timedelta
from typing import Any

import pytest

from bursar.billing.account import Account, Profile
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.enforcement import Circumstances, enforce
from bursar.billing.kiloclaw.mail import cycle_of
from bursar.billing.kiloclaw.rows import EarlyEvent, Instance, Subscription, hosting_of
from bursar.billing.steps import StepKind
from bursar.billing.values import replace
from tests.billing.kiloclaw.making import (
    CATALOGUE,
    DAY,
    HOUR,
    NOW,
    SECOND,
    a_paid_row,
    a_trial,
    an_account,
    an_instance,
    with_instance_row,
)

ENDED = {"status": "canceled", "current_period_end": NOW - SECOND}
DUE = {"status": "canceled", "suspended_at": NOW - 7 * DAY, "destruction_deadline": NOW - SECOND}


def run(account: Account, only: str | None = None, **facts: Any) -> Decision:
    circumstances = Circumstances(CATALOGUE, facts.pop("now", NOW), **facts)
    return enforce(account, circumstances, (only,)) if only else enforce(account, circumstances)


def row_of(decision: Decision) -> Subscription:
    row = hosting_of(decision.account).subscription
    assert row is not None
    return row


def instance_of(decision: Decision) -> Instance:
    return hosting_of(decision.account).instances[0]


def mails_of(decision: Decision) -> list[str]:
    return [step.payload["email_type"] for step in decision.steps if step.kind is StepKind.SEND_MAIL]


def without_customer(**changes: Any) -> Account:
    """A suspended row that Stripe knows nothing of."""
    trial = {"trial_started_at": NOW - 38 * DAY, "trial_ends_at": NOW - 8 * DAY}
    row = a_trial(**(trial | DUE | changes))
    return with_instance_row(row, an_instance(desired_state="stopped", generation=2, done_generation=2))


def test_kc_60_an_expired_trial_is_canceled_suspended_stopped_and_told() -> None:
    decision = run(with_instance_row(a_trial(trial_ends_at=NOW + DAY)), now=NOW + DAY + SECOND)

    row = row_of(decision)
    assert (row.status, row.suspended_at) == ("canceled", NOW + DAY + SECOND)
    assert row.destruction_deadline == NOW + 8 * DAY + SECOND
    assert (instance_of(decision).desired_state, instance_of(decision).generation) == ("stopped", 2)
    assert mails_of(decision) == ["claw_suspended_trial"]


def test_kc_60_a_trial_that_ends_now_still_runs() -> None:
    account = with_instance_row(a_trial(trial_ends_at=NOW))

    assert row_of(run(account, "trial_expiry")).status == "trialing"


def test_kc_61_another_instance_of_the_user_is_never_stopped() -> None:
    account = an_account(a_trial(trial_ends_at=NOW - SECOND, instance_id="inst-gone"), an_instance())

    assert instance_of(run(account)).desired_state == "running"


def test_kc_70_a_canceled_row_is_suspended_once_its_period_is_over() -> None:
    decision = run(with_instance_row(a_paid_row(**ENDED)))

    assert (row_of(decision).suspended_at, row_of(decision).destruction_deadline) == (NOW, NOW + 7 * DAY)
    assert mails_of(decision) == ["claw_suspended_subscription"]


def test_kc_70_paid_time_is_never_cut_short() -> None:
    account = with_instance_row(a_paid_row(status="canceled", current_period_end=NOW + SECOND))

    assert run(account).account is account


def test_kc_71_past_due_grace_counts_from_first_failure_and_is_strict() -> None:
    row = a_paid_row(status="past_due", past_due_since=NOW - 14 * DAY)

    assert run(with_instance_row(row)).counts == {"stale": 1}
    decision = run(with_instance_row(row), now=NOW + SECOND)
    assert (row_of(decision).status, row_of(decision).suspended_at) == ("past_due", NOW + SECOND)
    assert mails_of(decision) == ["claw_suspended_payment"]


def test_kc_71_unpaid_keeps_its_status() -> None:
    decision = run(with_instance_row(a_paid_row(status="unpaid", past_due_since=NOW - 15 * DAY)))

    assert row_of(decision).status == "unpaid"


@pytest.mark.parametrize(("left", "warned"), [(2 * DAY + SECOND, []), (2 * DAY, ["claw_destruction_warning"])])
def test_kc_72_the_warning_comes_two_days_before(left: timedelta, warned: list[str]) -> None:
    account = with_instance_row(a_paid_row(**(DUE | {"destruction_deadline": NOW + left})))

    assert mails_of(run(account)) == warned


def test_kc_72_a_second_sweep_warns_no_more() -> None:
    first = run(with_instance_row(a_paid_row(**(DUE | {"destruction_deadline": NOW + DAY}))))

    assert mails_of(run(first.account)) == []


def test_kc_73_the_instance_is_marked_and_the_row_waits_for_it_to_be_gone() -> None:
    decision = run(without_customer())

    instance = instance_of(decision)
    assert (instance.desired_state, instance.destroying_since, instance.destroyed_at) == ("destroyed", NOW, None)
    assert row_of(decision).destruction_deadline == NOW - SECOND
    assert (decision.destruction_slots, mails_of(decision)) == (1, [])


def test_kc_73_marked_once_only() -> None:
    first = run(without_customer())

    assert run(first.account).counts == {"stale": 1}


def test_kc_73_a_row_without_a_live_instance_just_loses_its_deadline() -> None:
    decision = run(an_account(a_trial(trial_ends_at=NOW + DAY, **DUE)))

    assert row_of(decision).destruction_deadline is None
    assert (mails_of(decision), decision.destruction_slots) == ([], 0)


@pytest.mark.parametrize("status", ["active", "trialing"])
def test_kc_73_never_an_active_or_trialing_row_whatever_its_dates(status: str) -> None:
    account = without_customer(status=status, trial_ends_at=NOW + DAY)

    assert instance_of(run(account)).destroying_since is None


def test_kc_74_a_stripe_customer_is_asked_about_before_destruction() -> None:
    account = with_instance_row(a_paid_row(**DUE))

    decision = run(account)

    assert [step.kind for step in decision.steps] == [StepKind.READ_SUBSCRIPTIONS]
    assert instance_of(decision).destroying_since is None
    assert instance_of(run(account, stripe_just_read=True)).destroying_since == NOW


def test_kc_74_a_customer_known_from_the_profile_is_asked_about_too() -> None:
    account = without_customer().having(Profile("ada", stripe_customer_id="cus_9"))

    assert [step.kind for step in run(account).steps] == [StepKind.READ_SUBSCRIPTIONS]


def test_kc_74_a_row_of_stripes_without_a_customer_is_asked_about_too() -> None:
    decision = run(with_instance_row(a_paid_row(stripe_customer_id=None, **DUE)))

    assert [step.kind for step in decision.steps] == [StepKind.READ_SUBSCRIPTIONS]


def test_kc_74_who_may_have_bought_by_an_event_that_came_early_is_asked_about_too() -> None:
    account = without_customer()
    early = EarlyEvent("evt_1", "sub_9", "cus_9", "customer.subscription.updated", NOW)

    decision = run(account.having(replace(hosting_of(account), early_events=(early,))))

    assert [step.kind for step in decision.steps] == [StepKind.READ_SUBSCRIPTIONS]


@pytest.mark.parametrize(("past_the_end", "destroyed"), [(-SECOND, False), (SECOND, True)])
def test_kc_101_what_earlybird_still_covers_is_not_destroyed(past_the_end: timedelta, *, destroyed: bool) -> None:
    account = without_customer()
    covered = account.having(replace(hosting_of(account), earlybird_payment_id="pi_1"))

    decision = run(covered, now=CATALOGUE.kiloclaw.earlybird.access_until + past_the_end)

    assert (instance_of(decision).destroying_since is not None) is destroyed


def test_kc_74_beyond_the_daily_cap_destruction_waits() -> None:
    decision = run(without_customer(), slot_left=False)

    assert instance_of(decision).destroying_since is None
    assert decision.counts["deferred_by_cap"] == 1


@pytest.mark.parametrize(
    ("left", "mail"),
    [
        (5 * DAY + SECOND, []),
        (5 * DAY, ["claw_trial_5d"]),
        (DAY + SECOND, ["claw_trial_5d"]),
        (DAY, ["claw_trial_1d"]),
        (HOUR, ["claw_trial_1d"]),
    ],
)
def test_kc_75_trial_warnings(left: timedelta, mail: list[str]) -> None:
    assert mails_of(run(an_account(a_trial(trial_ends_at=NOW + left)))) == mail


def test_kc_75_no_warning_once_the_trial_was_taken_over() -> None:
    assert mails_of(run(an_account(a_paid_row(trial_ends_at=NOW + HOUR, trial_started_at=NOW - DAY)))) == []


def test_kc_90_an_interrupted_resume_is_taken_up() -> None:
    account = with_instance_row(a_paid_row(), an_instance(desired_state="stopped", generation=2))

    assert instance_of(run(account, "resume")).desired_state == "running"


def test_kc_90_the_cycle_mails_come_again_in_a_later_suspension() -> None:
    first = run(with_instance_row(a_paid_row(status="past_due", past_due_since=NOW - 15 * DAY)))
    hosting = hosting_of(first.account)
    again = a_paid_row(status="past_due", past_due_since=NOW, instance_id="inst-1")
    later = run(first.account.having(type(hosting)(again, hosting.instances, hosting.mails)), now=NOW + 15 * DAY)

    assert mails_of(later) == ["claw_suspended_payment"]
    assert {key.cycle for key in hosting_of(later.account).mails} == {cycle_of(NOW), cycle_of(NOW + 15 * DAY)}


def test_a_sweep_run_twice_is_a_sweep_run_once() -> None:
    for account in (
        with_instance_row(a_trial(trial_ends_at=NOW - SECOND)),
        with_instance_row(a_paid_row(**ENDED)),
        without_customer(),
    ):
        once = run(account)
        assert run(once.account).account is once.account


def test_kc_101_what_earlybird_covers_is_not_stopped_whatever_the_row_says() -> None:
    unpaid = a_paid_row(status="unpaid", past_due_since=NOW - 15 * DAY)
    for row in (a_paid_row(**ENDED), unpaid, a_trial(trial_ends_at=NOW - SECOND)):
        account = with_instance_row(row)
        covered = account.having(replace(hosting_of(account), earlybird_payment_id="pi_1"))
        decision = run(covered)
        assert instance_of(decision).desired_state == "running"
        assert row_of(decision).suspended_at is None
        assert row_of(decision).status != "trialing"


def test_kc_70_once_earlybird_is_over_an_ended_period_suspends() -> None:
    account = with_instance_row(a_paid_row(**ENDED))
    covered = account.having(replace(hosting_of(account), earlybird_payment_id="pi_1"))

    after = run(covered, now=CATALOGUE.kiloclaw.earlybird.access_until + SECOND)

    assert mails_of(after) == ["claw_suspended_subscription"]
