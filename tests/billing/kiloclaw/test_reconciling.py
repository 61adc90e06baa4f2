"""A row and what Stripe says of its subscription, compared (MS-10)."""

from typing import Any

import pytest

from bursar.billing.kiloclaw.reconciling import STALE_AFTER, Finding, FindingKind, Owned, compared, repaired
from bursar.billing.kiloclaw.rows import Subscription, hosting_of
from bursar.billing.steps import StepKind
from bursar.billing.values import replace
from tests.billing.kiloclaw.making import (
    CATALOGUE,
    COMMIT,
    DAY,
    HOUR,
    NOW,
    SECOND,
    a_paid_row,
    a_stripe_subscription,
    an_account,
)

LISTED_AT = NOW + HOUR


def found(row: Subscription | None, owner: str | None = "user:ada", **subscription: Any) -> Finding | None:
    owned = Owned("user:ada", row) if row else None
    return compared(a_stripe_subscription(**subscription), owned, owner, CATALOGUE, LISTED_AT)


def test_ms_10_a_row_that_fits_is_no_finding() -> None:
    assert found(a_paid_row()) is None


def test_ms_10_cr_55_one_that_is_paid_there_and_waits_for_its_settlement_here_is_different() -> None:
    waiting = a_paid_row(payment_source="credits")
    finding = found(waiting)
    assert finding
    assert (finding.kind, finding.fields, finding.is_repairable) == (FindingKind.DIFFERENT, ("settled_at",), True)
    assert found(replace(waiting, settled_at=NOW)) is None
    assert found(replace(waiting, status="past_due", past_due_since=NOW), status="past_due") is None


def test_ms_10_cr_56_a_settled_row_that_owes_here_and_pays_there_is_different() -> None:
    """Grace would suspend it: what a read would bring counts, not what an event may say of it."""
    owing = a_paid_row(payment_source="credits", settled_at=NOW, status="past_due", past_due_since=NOW)
    finding = found(owing)
    assert finding
    assert (finding.kind, finding.fields) == (FindingKind.DIFFERENT, ("past_due_since", "status"))
    assert found(owing, status="past_due") is None


@pytest.mark.parametrize("status", ["active", "trialing", "past_due", "unpaid"])
def test_ms_10_a_live_subscription_without_a_row_is_missing_here(status: str) -> None:
    finding = found(None, status=status)
    assert finding
    assert (finding.kind, finding.account_key, finding.is_repairable) == (FindingKind.MISSING_HERE, "user:ada", True)


def test_ms_10_one_whose_user_nobody_knows_is_reported_only() -> None:
    finding = found(None, owner=None)
    assert finding
    assert not finding.is_repairable


@pytest.mark.parametrize("status", ["canceled", "incomplete_expired", "incomplete"])
def test_ms_10_an_ended_one_without_a_row_is_nothing(status: str) -> None:
    assert found(None, status=status) is None


@pytest.mark.parametrize(
    ("subscription", "fields"),
    [
        ({"status": "past_due"}, ("past_due_since", "status")),
        ({"price": COMMIT}, ("plan",)),
        ({"end": NOW + 31 * DAY}, ("current_period_end",)),
        ({"cancel_at_period_end": True}, ("cancel_at_period_end",)),
        ({"customer": "cus_2"}, ("stripe_customer_id",)),
        ({"schedule": "sub_sched_1"}, ("stripe_schedule_id",)),
    ],
)
def test_ms_10_what_differs_is_named(subscription: dict[str, Any], fields: tuple[str, ...]) -> None:
    finding = found(a_paid_row(), **subscription)
    assert finding
    assert (finding.kind, finding.fields) == (FindingKind.DIFFERENT, fields)


def test_kc_40_a_commit_row_without_its_schedule_counts_as_different() -> None:
    finding = found(a_paid_row(plan="commit"), price=COMMIT)
    assert finding
    assert (finding.kind, finding.fields) == (FindingKind.DIFFERENT, ("stripe_schedule_id",))


def test_a_row_that_moved_since_it_was_listed_is_not_judged() -> None:
    assert found(a_paid_row(last_stripe_event_at=LISTED_AT), status="canceled") is None


def test_ms_10_a_row_that_nothing_was_heard_of_is_stale() -> None:
    """A month's renewal tells something of every live one."""
    long_ago = LISTED_AT - STALE_AFTER - SECOND
    old = a_paid_row(created_at=long_ago, last_stripe_event_at=long_ago)
    finding = found(old)
    assert finding
    assert finding.kind is FindingKind.STALE
    assert found(replace(old, last_read_at=LISTED_AT - DAY)) is None


def test_a_status_that_no_rule_knows_stops_no_run() -> None:
    finding = found(a_paid_row(), status="frozen")
    assert finding
    assert (finding.kind, finding.is_repairable) == (FindingKind.UNREADABLE, False)


def test_ms_10_a_repair_asks_for_a_read() -> None:
    finding = found(a_paid_row(), status="past_due")
    assert finding
    decision = repaired(an_account(a_paid_row()), finding, CATALOGUE, NOW)
    assert [step.kind for step in decision.steps] == [StepKind.READ_SUBSCRIPTIONS]
    assert hosting_of(decision.account).subscription == a_paid_row(), "what is read decides, not the list"


def test_kc_40_the_repair_of_a_commit_row_has_its_schedule_kept_too() -> None:
    row = a_paid_row(plan="commit")
    finding = found(row, price=COMMIT)
    assert finding
    steps = repaired(an_account(row), finding, CATALOGUE, NOW).steps
    assert [step.kind for step in steps] == [StepKind.READ_SUBSCRIPTIONS, StepKind.KEEP_SCHEDULE]


def test_kc_31_one_that_is_missing_here_is_remembered_as_if_it_were_created_now() -> None:
    finding = found(None)
    assert finding
    once = repaired(an_account(), finding, CATALOGUE, NOW)
    [early] = hosting_of(once.account).early_events
    assert (early.type, early.stripe_subscription_id, early.stripe_customer_id) == (
        "customer.subscription.created",
        "sub_1",
        "cus_1",
    )
    assert repaired(once.account, finding, CATALOGUE, NOW).account is once.account, "the next run adds nothing"
