"""Renewals as decisions (CR-30…CR-41): one row, one boundary, one period."""

from datetime import UTC, datetime
from typing import Any

import pytest

from bursar.billing.account import Account
from bursar.billing.credits.ledger import Credits, Entry, EntryKind, InsufficientCredits
from bursar.billing.credits.renewal import Renewal, charge_key, renew, renew_commit
from bursar.billing.decision import Decision
from bursar.billing.errors import Refused
from bursar.billing.kiloclaw.enforcement import Circumstances, enforce
from bursar.billing.kiloclaw.mail import cycle_of
from bursar.billing.kiloclaw.rows import MailKey, Subscription, hosting_of
from bursar.billing.steps import Step
from bursar.billing.values import replace
from tests.billing.credits.crediting import (
    BEGUN,
    DUE,
    a_commit_row,
    a_credit_row,
    balance,
    with_credits,
)
from tests.billing.kiloclaw.making import CATALOGUE, DAY, HOUR, SECOND, an_instance

MARCH_31 = datetime(2026, 3, 31, 9, tzinfo=UTC)
FAILED = "claw_credit_renewal_failed"


def renewed(account: Account, now: datetime = DUE, boundary: datetime | None = None, cause: str = "tick") -> Decision:
    """What the sweep decides: `stale` in the counts where it is none."""
    facts = Circumstances(CATALOGUE, now, boundary=boundary, cause=cause)
    return enforce(account, facts, only={"credit_renewal"})


def row_of(decided: Decision) -> Subscription:
    row = hosting_of(decided.account).subscription
    assert row
    return row


def charges(decided: Decision) -> list[tuple[int, str]]:
    entries = decided.account.part(Credits).entries
    return [
        (-one.amount_microdollars // 1_000_000, one.business_key) for one in entries if one.kind is EntryKind.CHARGE
    ]


def test_cr_32_one_period_is_charged_and_the_row_advances_by_it() -> None:
    row = a_credit_row()
    decided = renewed(with_credits(row, dollars=30))

    assert charges(decided) == [(25, f"kiloclaw-renewal:{row.id}:standard:{DUE.isoformat()}")]
    assert balance(decided.account) == 5
    after = row_of(decided)
    assert (after.current_period_start, after.current_period_end, after.credit_renewal_at) == (DUE, MARCH_31, MARCH_31)
    assert decided.counts == {"changed": 1, "renewed": 1}


def test_cr_32_the_end_of_the_month_is_kept_over_a_short_february() -> None:
    account, ends = with_credits(a_credit_row(), dollars=300), []
    for _ in range(4):
        decided = renewed(account, datetime(2027, 1, 1, tzinfo=UTC))
        account = decided.account
        ends.append((row_of(decided).current_period_end or DUE).date().isoformat())

    assert ends == ["2026-03-31", "2026-04-30", "2026-05-31", "2026-06-30"]


def test_cr_32_a_row_three_months_behind_takes_three_items() -> None:
    account = with_credits(a_credit_row(), dollars=100)
    now = DUE + 65 * DAY
    for item in range(3):
        decided = renewed(account, now)
        assert len(charges(decided)) == item + 1
        account = decided.account

    assert renewed(account, now).counts == {"stale": 1}
    assert balance(account) == 25


@pytest.mark.parametrize(
    ("row", "now", "boundary"),
    [
        (a_credit_row(), DUE - SECOND, None),
        (a_credit_row(), DUE, BEGUN),
        (a_credit_row(stripe_subscription_id="sub_1"), DUE, None),
        (a_credit_row(payment_source="stripe", stripe_subscription_id="sub_1"), DUE, None),
        (a_credit_row(status="canceled"), DUE, None),
        (None, DUE, DUE),
    ],
    ids=["not due", "another boundary", "hybrid", "direct", "canceled", "no row"],
)
def test_cr_31_a_stale_item_writes_nothing(row: Subscription | None, now: datetime, boundary: datetime | None) -> None:
    account = with_credits(row, dollars=100)
    decided = renewed(account, now, boundary)

    assert decided.account is account
    assert decided.counts == {"stale": 1}


def test_cr_33_what_is_charged_already_is_not_charged_again() -> None:
    row = a_credit_row()
    decided = renewed(with_credits(row, entries=[a_charge(charge_key(row, "standard", DUE))]))

    assert row_of(decided).current_period_end == MARCH_31
    assert row_of(decided).status == "active"
    assert len(charges(decided)) == 1


def test_cr_33_a_charge_for_another_plan_counts_and_gives_that_plan() -> None:
    row = a_credit_row()
    decided = renewed(with_credits(row, entries=[a_charge(charge_key(row, "commit", DUE))]))

    assert (row_of(decided).plan, row_of(decided).current_period_end) == (
        "commit",
        datetime(2026, 8, 31, 9, tzinfo=UTC),
    )
    assert len(charges(decided)) == 1


@pytest.mark.parametrize("status", [{}, {"status": "past_due", "past_due_since": DUE}])
def test_cr_34_a_pending_cancellation_ends_it_at_the_boundary(status: dict[str, Any]) -> None:
    decided = renewed(with_credits(a_credit_row(cancel_at_period_end=True, **status), dollars=100), DUE + HOUR)

    after = row_of(decided)
    assert (after.status, after.cancel_at_period_end, after.current_period_end) == ("canceled", False, DUE)
    assert after.past_due_since is None
    assert charges(decided) == []


def test_cr_35_a_scheduled_plan_is_applied_with_its_price_its_key_and_its_commit_end() -> None:
    row = a_credit_row(scheduled_plan="commit", scheduled_by="user")
    decided = renewed(with_credits(row, dollars=54))

    end = datetime(2026, 8, 31, 9, tzinfo=UTC)
    after = row_of(decided)
    assert charges(decided) == [(54, charge_key(row, "commit", DUE))]
    assert (after.plan, after.current_period_end, after.commit_ends_at) == ("commit", end, end)
    assert (after.scheduled_plan, after.scheduled_by) == ("standard", "auto"), "commit is followed by standard"


def test_cr_35_with_too_little_money_the_plan_stays_scheduled() -> None:
    row = a_credit_row(scheduled_plan="commit", scheduled_by="user")
    decided = renewed(with_credits(row, dollars=53))

    after = row_of(decided)
    assert (after.plan, after.scheduled_plan, after.status) == ("standard", "commit", "past_due")
    assert charges(decided) == []


@pytest.mark.parametrize("scheduled", [{}, {"scheduled_plan": None, "scheduled_by": None}])
def test_cr_36_a_commitment_that_ends_becomes_standard(scheduled: dict[str, Any]) -> None:
    row = a_commit_row(**scheduled)
    decided = renewed(with_credits(row, dollars=60))

    after = row_of(decided)
    assert charges(decided) == [(25, charge_key(row, "standard", DUE))]
    assert (after.plan, after.commit_ends_at, after.scheduled_plan) == ("standard", None, None)
    assert after.current_period_end == MARCH_31


def test_cr_36_renew_commit_charges_at_once_and_the_boundary_charges_nothing() -> None:
    row = a_commit_row()
    asked = renew_commit(with_credits(row, dollars=60), CATALOGUE, "command:1")
    end = datetime(2026, 8, 31, 9, tzinfo=UTC)
    assert row_of(asked).commit_ends_at == end
    assert row_of(asked).current_period_end == DUE
    assert charges(asked) == [(54, charge_key(row, "commit", DUE))]
    again = renew_commit(asked.account, CATALOGUE, "command:1")
    assert again.account is asked.account
    assert again.result == asked.result

    after = row_of(renewed(asked.account))
    assert (after.plan, after.current_period_end, after.commit_ends_at) == ("commit", end, end)
    assert (after.scheduled_plan, after.scheduled_by) == ("standard", "auto")
    assert row_of(renewed(renewed(asked.account).account, end)).status == "past_due", "six dollars are left"


def test_cr_36_what_was_paid_ahead_is_had_even_if_it_is_canceled_later() -> None:
    asked = renew_commit(with_credits(a_commit_row(), dollars=60), CATALOGUE, "command:1").account
    hosting = hosting_of(asked)
    assert hosting.subscription
    canceling = asked.having(replace(hosting, subscription=replace(hosting.subscription, cancel_at_period_end=True)))
    prepaid = renewed(canceling)
    assert row_of(prepaid).status == "active"
    assert row_of(renewed(prepaid.account, datetime(2026, 8, 31, 9, tzinfo=UTC))).status == "canceled"


def test_cr_36_renew_commit_is_refused_without_money_and_for_what_is_no_active_commit() -> None:
    with pytest.raises(InsufficientCredits) as refused:
        renew_commit(with_credits(a_commit_row(), dollars=50), CATALOGUE, "command:1")
    assert refused.value.shortfall_microdollars == 4_000_000
    for row in (a_credit_row(), a_commit_row(status="canceled"), a_commit_row(cancel_at_period_end=True), None):
        with pytest.raises(Refused):
            renew_commit(with_credits(row, dollars=100), CATALOGUE, "command:1")


def test_cr_39_too_little_money_makes_it_past_due_with_one_mail_of_the_cycle() -> None:
    decided = renewed(with_credits(a_credit_row(), dollars=24), DUE + HOUR)

    after = row_of(decided)
    assert (after.status, after.past_due_since, after.credit_renewal_at) == ("past_due", DUE + HOUR, DUE)
    assert balance(decided.account) == 24
    (mail,) = mails(decided.steps)
    assert mail == MailKey(FAILED, cycle_of(DUE + HOUR))
    again = renewed(decided.account, DUE + 2 * HOUR)
    assert again.account is decided.account, "the first instant is kept, and nothing else changes"
    assert again.steps == ()


def test_cr_37_a_past_due_row_that_pays_is_active_and_its_next_failure_has_a_mail_of_its_own() -> None:
    unpaid = renewed(with_credits(a_credit_row(), dollars=20))
    paid = renewed(give(unpaid.account, 10), DUE + 5 * DAY)
    assert (row_of(paid).status, row_of(paid).past_due_since) == ("active", None)
    assert paid.counts == {"changed": 1, "renewed": 1, "recovered": 1}

    failed_again = renewed(paid.account, MARCH_31)
    assert [mail.cycle for mail in mails(failed_again.steps)] == [cycle_of(MARCH_31)]


def test_cr_37_a_suspended_row_that_pays_resumes() -> None:
    stopped = an_instance(desired_state="stopped", generation=2, done_generation=2)
    row = a_credit_row(
        status="past_due",
        past_due_since=DUE,
        suspended_at=DUE + 15 * DAY,
        destruction_deadline=DUE + 22 * DAY,
        instance_id=stopped.id,
    )
    decided = renewed(with_credits(row, stopped, dollars=25), DUE + 20 * DAY)

    after = row_of(decided)
    assert (after.status, after.suspended_at, after.destruction_deadline) == ("active", None, None)
    (instance,) = hosting_of(decided.account).instances
    assert (instance.desired_state, instance.generation) == ("running", 3)


def test_cr_41_a_row_without_an_instance_renews_until_it_is_canceled() -> None:
    gone = an_instance(desired_state="destroyed", destroyed_at=BEGUN + DAY)
    decided = renewed(with_credits(a_credit_row(instance_id=gone.id), gone, dollars=25))
    assert row_of(decided).current_period_end == MARCH_31
    assert hosting_of(decided.account).instances == (gone,)


def test_cr_31_an_item_of_a_boundary_renews_that_boundary_only() -> None:
    row, item = a_credit_row(), Renewal(DUE, DUE + 60 * DAY, "tick")
    first = renew(with_credits(row, dollars=100), row, item, CATALOGUE)
    assert first
    assert renew(first.account, row_of(first), item, CATALOGUE) is None


def a_charge(business_key: str) -> Entry:
    return Entry(
        kind=EntryKind.CHARGE,
        amount_microdollars=-25_000_000,
        description="before",
        business_key=business_key,
        cause="tick",
    )


def give(account: Account, dollars: int) -> Account:
    credit = account.part(Credits)
    more = credit.acquired_microdollars + dollars * 1_000_000
    return account.having(replace(credit, acquired_microdollars=more))


def mails(steps: tuple[Step, ...]) -> list[MailKey]:
    return [MailKey(str(step.payload["email_type"]), str(step.payload["cycle"])) for step in steps]
