"""Hosting is paid from credits or at Stripe, never both: what turns up beside an enrolment ends there (CR-25)."""

from datetime import timedelta
from typing import Any

import pytest

from bursar.billing.account import Account
from bursar.billing.decision import Decision
from bursar.billing.errors import Refused
from bursar.billing.kiloclaw.endings import BESIDE_CREDITS
from bursar.billing.kiloclaw.reads import SubscriptionsRead, read_targets, subscriptions_read
from bursar.billing.kiloclaw.rows import EarlyEvent, Subscription, hosting_of
from bursar.billing.steps import Step, StepKind
from tests.billing.credits.crediting import a_commit_row, a_credit_row, with_credits
from tests.billing.credits.settling import METADATA, entries, paid, pair, row_of, told
from tests.billing.credits.test_enrolment import enrolled, refusal
from tests.billing.kiloclaw.making import CATALOGUE, DAY, HOUR, NOW, a_stripe_subscription, an_instance

ENROLLED = {
    "credit_anchor_at": NOW,
    "current_period_start": NOW,
    "current_period_end": NOW + 180 * DAY,
    "credit_renewal_at": NOW + 180 * DAY,
}
COMMITTED = a_commit_row(**{**ENROLLED, "commit_ends_at": NOW + 180 * DAY})
DIRECT = {**METADATA, "funding": "direct"}


def read(account: Account, **subscription: Any) -> Decision:
    """Stripe is asked and shows that one."""
    shown = a_stripe_subscription(**({"metadata": METADATA, "latest_invoice": "in_1"} | subscription))
    targets = read_targets(account)
    return subscriptions_read(account, SubscriptionsRead((shown,), targets.row_version, NOW + DAY), CATALOGUE, "step:1")


def ends(subscription_id: str = "sub_1", **returned: str) -> tuple[Step, ...]:
    payload = {"stripe_subscription_id": subscription_id} | returned
    return (Step(StepKind.END_SUBSCRIPTION, f"end-subscription:{subscription_id}", payload),)


@pytest.mark.parametrize("status", ["active", "trialing", "past_due", "unpaid"])
def test_cr_25_an_enrolment_keeps_its_row_and_the_subscription_beside_it_ends_with_its_money_back(status: str) -> None:
    remembered = told(with_credits(COMMITTED), "created", metadata=DIRECT)
    assert [step.kind for step in remembered.steps] == [StepKind.READ_SUBSCRIPTIONS]

    decided = read(remembered.account, status=status, metadata=DIRECT)

    assert row_of(decided) == COMMITTED
    assert decided.steps == ends(unused_invoice_id="in_1")
    assert (decided.counts[BESIDE_CREDITS], hosting_of(decided.account).early_events) == (1, ())


@pytest.mark.parametrize("status", ["paused", "incomplete"])
def test_cr_25_one_that_costs_nothing_yet_ends_quietly(status: str) -> None:
    decided = read(with_credits(COMMITTED), status=status)

    assert (decided.steps, BESIDE_CREDITS in decided.counts) == (ends(unused_invoice_id="in_1"), False)


@pytest.mark.parametrize("status", ["canceled", "incomplete_expired"])
def test_cr_25_one_that_has_ended_is_forgotten(status: str) -> None:
    decided = read(told(with_credits(COMMITTED), "created").account, status=status)

    assert (row_of(decided), decided.steps, hosting_of(decided.account).early_events) == (COMMITTED, (), ())


def test_cr_25_a_period_that_was_used_before_the_enrolment_is_not_given_back_by_itself() -> None:
    decided = read(with_credits(COMMITTED), start=NOW - 10 * DAY, end=NOW + 20 * DAY)

    assert (decided.steps, decided.counts[BESIDE_CREDITS]) == (ends(), 1)


def test_cr_25_kc_74_an_enrolment_that_is_past_due_gives_way() -> None:
    overdue = a_credit_row(status="past_due", past_due_since=NOW)
    decided = read(told(with_credits(overdue), "created").account)

    assert (row_of(decided).stripe_subscription_id, row_of(decided).status) == ("sub_1", "active")


@pytest.mark.parametrize("kind", ["resumed", "updated", "paused"])
def test_cr_25_any_sign_of_a_subscription_beside_an_enrolment_has_stripe_read(kind: str) -> None:
    decided = told(with_credits(COMMITTED), kind)

    assert [step.kind for step in decided.steps] == [StepKind.READ_SUBSCRIPTIONS]


@pytest.mark.parametrize("row", [COMMITTED, a_credit_row(status="canceled", credit_renewal_at=None)])
def test_cr_50_kc_31_a_late_invoice_of_the_former_subscription_is_a_pair_without_the_row(row: Subscription) -> None:
    remembered = paid(with_credits(row), id="in_late")
    assert [step.kind for step in remembered.steps] == [StepKind.READ_SUBSCRIPTIONS]

    decided = read(remembered.account, status="canceled", ended_at=int(NOW.timestamp()))

    assert (entries(decided.account), row_of(decided)) == (pair(25, "in_late"), row)
    assert hosting_of(decided.account).early_events == ()


def test_cr_50_what_was_paid_for_the_one_that_ends_is_a_pair_too() -> None:
    decided = read(paid(with_credits(COMMITTED)).account)

    assert (entries(decided.account), row_of(decided)) == (pair(25, "in_1"), COMMITTED)
    assert decided.steps == ends(unused_invoice_id="in_1")


@pytest.mark.parametrize(
    "event_type",
    ["invoice.paid", "invoice.payment_failed", "customer.subscription.updated", "customer.subscription.resumed"],
)
def test_cr_25_enrolment_is_refused_while_anything_tells_of_a_subscription_about_to_begin(event_type: str) -> None:
    early = EarlyEvent("evt_1", "sub_1", "cus_1", event_type, NOW)
    known = with_credits(None, an_instance(), dollars=100, early=(early,))

    with pytest.raises(Refused) as refused:
        enrolled(known, now=NOW + HOUR)
    assert refused.value.code == "already_subscribed"
    # By then Stripe has sent `created` as well: this is of a former subscription, and nothing to wait for.
    enrolled(known, now=NOW + timedelta(days=3))


def test_cr_25_what_is_said_of_one_that_was_deleted_is_nothing_to_wait_for() -> None:
    told_early = ("customer.subscription.updated", "customer.subscription.deleted")
    early = tuple(EarlyEvent(f"evt_{kind}", "sub_1", "cus_1", kind, NOW) for kind in told_early)

    enrolled(with_credits(None, an_instance(), dollars=100, early=early), now=NOW)


def test_cr_25_created_is_waited_for_until_it_is_read() -> None:
    early = EarlyEvent("evt_1", "sub_1", "cus_1", "customer.subscription.created", NOW - 30 * DAY)

    assert refusal(with_credits(None, an_instance(), dollars=100, early=(early,))) == "already_subscribed"
