"""Enrolment as a decision (CR-20…CR-25)."""

from datetime import UTC, datetime

import pytest

from bursar.billing.account import Account
from bursar.billing.catalogue import PaidPlan
from bursar.billing.credits.enrolment import Enrolment, enroll
from bursar.billing.credits.ledger import Credits, InsufficientCredits
from bursar.billing.decision import Decision
from bursar.billing.errors import Refused
from bursar.billing.kiloclaw.rows import EarlyEvent, Subscription, hosting_of
from bursar.billing.kiloclaw.stripe_events import CREATED
from tests.billing.credits.crediting import a_credit_row, balance, with_credits
from tests.billing.kiloclaw.making import CATALOGUE, DAY, HOUR, a_paid_row, a_trial, an_instance

NOW = datetime(2026, 1, 31, 9, tzinfo=UTC)
FEBRUARY_28 = datetime(2026, 2, 28, 9, tzinfo=UTC)
JULY_31 = datetime(2026, 7, 31, 9, tzinfo=UTC)


def enrolled(
    account: Account,
    plan: PaidPlan = "standard",
    instance_id: str = "inst-1",
    command_id: str = "command:1",
    now: datetime = NOW,
) -> Decision:
    return enroll(account, Enrolment(plan, instance_id, command_id), CATALOGUE, now)


def row_of(decided: Decision) -> Subscription:
    row = hosting_of(decided.account).subscription
    assert row
    return row


def refusal(account: Account, **asked: str) -> str:
    with pytest.raises(Refused) as refused:
        enrolled(account, **asked)  # type: ignore[arg-type]
    return refused.value.code


@pytest.mark.parametrize(
    "row",
    [
        None,
        a_trial(trial_ends_at=NOW + 100 * DAY, trial_started_at=NOW),
        a_paid_row(status="canceled"),
        a_credit_row(status="canceled"),
    ],
    ids=["no row", "trialing", "canceled at Stripe", "canceled"],
)
def test_cr_20_cr_22_it_is_allowed_without_a_row_from_trialing_and_from_canceled(row: Subscription | None) -> None:
    decided = enrolled(with_credits(row, an_instance(), dollars=30))

    after = row_of(decided)
    assert (after.plan, after.status, after.payment_source) == ("standard", "active", "credits")
    assert after.is_pure_credit
    assert (after.current_period_start, after.current_period_end) == (NOW, FEBRUARY_28)
    assert (after.credit_renewal_at, after.commit_ends_at, after.instance_id) == (FEBRUARY_28, None, "inst-1")
    assert after.version == (row.version if row else 0) + 1
    assert balance(decided.account) == 5


def test_cr_21_cr_22_commit_costs_54_dollars_for_six_months_up_front() -> None:
    decided = enrolled(with_credits(None, an_instance(), dollars=54), "commit")

    after = row_of(decided)
    assert balance(decided.account) == 0
    assert (after.current_period_end, after.credit_renewal_at, after.commit_ends_at) == (JULY_31, JULY_31, JULY_31)
    assert (after.scheduled_plan, after.scheduled_by) == ("standard", "auto")


@pytest.mark.parametrize("status", ["active", "past_due", "unpaid"])
def test_cr_20_cr_25_it_is_refused_while_a_row_is_paid_for(status: str) -> None:
    due = {"past_due_since": NOW} if status != "active" else {}
    for row in (a_paid_row(status=status, **due), a_credit_row(status=status, **due)):
        assert refusal(with_credits(row, an_instance(), dollars=100)) == "already_subscribed"


def test_cr_25_it_is_refused_while_a_subscription_at_stripe_is_about_to_begin() -> None:
    early = EarlyEvent("evt_1", "sub_1", "cus_1", CREATED, NOW)
    assert refusal(with_credits(None, an_instance(), dollars=100, early=(early,))) == "already_subscribed"
    under_way = with_credits(None, an_instance(), dollars=100, under_way=("operation:1",))
    assert refusal(under_way) == "operation_in_progress"


@pytest.mark.parametrize(("plan", "dollars", "short"), [("standard", 24, 1), ("commit", 50, 4), ("standard", 0, 25)])
def test_cr_21_too_little_tells_the_shortfall(plan: PaidPlan, dollars: int, short: int) -> None:
    with pytest.raises(InsufficientCredits) as refused:
        enrolled(with_credits(None, an_instance(), dollars=dollars), plan)

    assert refused.value.status == 402
    assert refused.value.members == {"shortfall_microdollars": short * 1_000_000}


def test_cr_21_exactly_enough_is_enough() -> None:
    assert balance(enrolled(with_credits(None, an_instance(), dollars=25)).account) == 0


def test_cr_20_the_instance_is_the_users_and_not_destroyed() -> None:
    gone = an_instance(desired_state="destroyed", destroyed_at=NOW)
    dying = an_instance(desired_state="destroyed", destroying_since=NOW)
    for instance in (gone, dying):
        assert refusal(with_credits(None, instance, dollars=100)) == "instance_destroyed"
    assert refusal(with_credits(None, an_instance(), dollars=100), instance_id="inst-2") == "instance_exists"

    about_to_be = enrolled(with_credits(None, gone, dollars=100), instance_id="inst-2")
    made = hosting_of(about_to_be.account).live_instance
    assert made
    assert (made.id, made.account_key) == ("inst-2", "user:ada")


def test_cr_23_the_same_request_again_finds_its_own_charge() -> None:
    first = enrolled(with_credits(None, an_instance(), dollars=100))
    again = enrolled(first.account)

    assert again.account is first.account
    assert again.result == first.result


def test_cr_23_enrolling_again_in_the_same_month_after_a_cancellation_works() -> None:
    first = enrolled(with_credits(None, an_instance(), dollars=60))
    hosting = hosting_of(first.account)
    canceled = with_credits(a_credit_row(status="canceled"), *hosting.instances)
    canceled = canceled.having(first.account.part(Credits))
    again = enrolled(canceled, command_id="command:2", now=NOW + HOUR)

    assert balance(again.account) == 10
    assert row_of(again).current_period_end == FEBRUARY_28 + HOUR


def test_cr_24_a_suspended_user_resumes() -> None:
    stopped = an_instance(desired_state="stopped", generation=2, done_generation=2)
    row = a_paid_row(status="canceled", suspended_at=NOW, destruction_deadline=NOW + 7 * DAY, instance_id=stopped.id)
    decided = enrolled(with_credits(row, stopped, dollars=25))

    after = row_of(decided)
    assert (after.suspended_at, after.destruction_deadline) == (None, None)
    (instance,) = hosting_of(decided.account).instances
    assert (instance.desired_state, instance.generation) == ("running", 3)
