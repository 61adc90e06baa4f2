from typing import Any

import pytest

from bursar.billing.credits.ledger import Credits, EntryKind
from bursar.billing.errors import UnreadableMessage
from bursar.billing.kiloclaw.access import access
from bursar.billing.kiloclaw.enforcement import Circumstances, enforce
from bursar.billing.kiloclaw.rows import hosting_of
from bursar.billing.kiloclaw.status import activation, lock_reason
from bursar.billing.steps import StepKind
from tests.billing.credits.crediting import a_deposit, balance, with_credits
from tests.billing.credits.settling import (
    METADATA,
    a_hybrid_row,
    an_entry,
    an_unsettled_row,
    delivered,
    entries,
    invoice_json,
    of_an_older_version,
    paid,
    pair,
    row_of,
    told,
)
from tests.billing.kiloclaw.making import (
    CATALOGUE,
    COMMIT,
    DAY,
    HOUR,
    NOW,
    a_paid_row,
    a_trial,
    an_account,
    an_instance,
)

END, NEXT_END = NOW + 30 * DAY, NOW + 60 * DAY
RENEWAL: dict[str, Any] = {"start": END, "end": NEXT_END}


def test_cr_50_cr_55_the_first_invoice_is_a_pair_and_gives_access() -> None:
    account = with_credits(an_unsettled_row())
    decided = paid(account, at=NOW + HOUR)

    assert entries(decided.account) == pair(25, "in_1")
    row = row_of(decided)
    assert (row.status, row.payment_source, row.stripe_subscription_id) == ("active", "credits", "sub_1")
    assert (row.current_period_start, row.current_period_end, row.credit_renewal_at) == (NOW, END, END)
    assert row.settled_at == NOW + HOUR
    assert access(hosting_of(decided.account), CATALOGUE, NOW).granted


def test_cr_50_the_key_is_the_charge_where_it_is_shown_else_the_invoice() -> None:
    for shown in ({"charge": "ch_1"}, {"payments": {"data": [{"payment": {"type": "charge", "charge": "ch_1"}}]}}):
        assert entries(paid(with_credits(a_hybrid_row()), **shown).account) == pair(25, "ch_1")
    assert entries(paid(with_credits(a_hybrid_row()), charge=None).account) == pair(25, "in_1")


def test_cr_50_two_payments_within_one_period_are_two_neutral_pairs() -> None:
    first = paid(with_credits(an_unsettled_row()))
    second = paid(first.account, "evt_2", id="in_2", amount_paid=2900)

    assert entries(second.account) == [*pair(25, "in_1"), *pair(29, "in_2")]
    assert row_of(second).current_period_end == END


def test_cr_2_cr_50_a_pair_passes_whatever_the_balance() -> None:
    refund = an_entry(EntryKind.REFUND, -9, "refund:ch_0:900", "pi_0")
    in_debt = with_credits(a_hybrid_row()).having(Credits(-9_000_000, 0, (refund,)))
    decided = paid(in_debt, amount_paid=5400)

    assert (entries(decided.account)[1:], balance(decided.account)) == (pair(54, "in_1"), -9)


def test_cr_52_a_zero_invoice_makes_no_entries_and_activates() -> None:
    decided = paid(with_credits(an_unsettled_row()), amount_paid=0)

    assert entries(decided.account) == []
    assert (row_of(decided).settled_at, activation(hosting_of(decided.account))) == (NOW, None)


def test_cr_52_the_amount_is_what_was_paid() -> None:
    assert entries(paid(with_credits(a_hybrid_row()), amount_paid=1300, total=2500).account) == pair(13, "in_1")


def test_cr_53_cr_3_the_same_payment_under_another_event_changes_nothing() -> None:
    first = paid(with_credits(a_hybrid_row()), **RENEWAL)
    dunned = told(first.account, at=NOW + 61 * DAY, status="past_due").account
    again = paid(dunned, "evt_again", NOW + 62 * DAY, **RENEWAL)

    assert again.account is dunned
    assert again.counts == {"settled_before": 1}


def test_cr_55_kc_90_past_due_and_suspension_end_and_the_instance_starts() -> None:
    late = NOW + 50 * DAY
    row = a_hybrid_row(
        status="past_due",
        past_due_since=END,
        suspended_at=NOW + 45 * DAY,
        destruction_deadline=NOW + 52 * DAY,
        instance_id="inst-1",
    )
    decided = paid(with_credits(row, an_instance(desired_state="stopped", generation=2)), at=late, **RENEWAL)

    row = row_of(decided)
    assert (row.status, row.past_due_since, row.suspended_at, row.destruction_deadline) == ("active", None, None, None)
    assert hosting_of(decided.account).instances[0].desired_state == "running"


def test_cr_55_cr_30_a_hybrid_row_is_never_renewed_from_credits() -> None:
    account = with_credits(a_hybrid_row(), dollars=100)
    facts = Circumstances(CATALOGUE, NEXT_END)

    assert enforce(account, facts, only={"credit_renewal"}).account is account


def test_cr_55_a_payment_for_an_earlier_period_is_kept_and_leaves_the_later_one() -> None:
    later = paid(with_credits(an_unsettled_row()), "evt_2", END, id="in_2", **RENEWAL)
    earlier = paid(later.account, "evt_1", NOW, id="in_1")

    assert entries(earlier.account) == [*pair(25, "in_2"), *pair(25, "in_1")]
    assert row_of(earlier) == row_of(later)


def test_cr_55_a_payment_from_before_the_dunning_does_not_end_it_and_stripe_is_asked() -> None:
    dunned = an_unsettled_row(status="past_due", past_due_since=END)
    decided = paid(with_credits(dunned), at=NOW)

    assert (row_of(decided).status, row_of(decided).settled_at) == ("past_due", NOW)
    assert [step.kind for step in decided.steps] == [StepKind.READ_SUBSCRIPTIONS]


def test_cr_55_kc_37_an_ended_row_stays_ended_and_its_payment_is_kept() -> None:
    decided = paid(with_credits(a_hybrid_row(status="canceled", credit_renewal_at=None)), id="in_9")

    assert (row_of(decided).status, row_of(decided).credit_renewal_at) == ("canceled", None)
    assert entries(decided.account) == pair(25, "in_9")
    assert [step.kind for step in decided.steps] == [StepKind.READ_SUBSCRIPTIONS]


def test_cr_56_updated_changes_only_the_cancel_flag_and_the_dunning() -> None:
    account = with_credits(a_hybrid_row())
    moved = told(account, at=NOW + HOUR, price=COMMIT, start=END, end=NEXT_END, cancel_at_period_end=True)

    row = row_of(moved)
    assert (row.plan, row.current_period_end, row.cancel_at_period_end) == ("standard", END, True)
    for status in ("past_due", "unpaid"):
        dunned = row_of(told(account, at=END, status=status))
        assert (dunned.status, dunned.past_due_since, dunned.current_period_end) == (status, END, END)


def test_cr_56_an_update_to_active_does_not_end_a_dunning_its_invoice_does() -> None:
    dunned = told(with_credits(a_hybrid_row()), at=END, status="past_due").account
    updated = told(dunned, at=END + DAY, status="active", start=END, end=NEXT_END)
    assert row_of(updated).status == "past_due"

    settled = paid(updated.account, at=END + DAY, **RENEWAL)
    assert (row_of(settled).status, row_of(settled).past_due_since) == ("active", None)


def test_cr_56_a_dunning_that_a_payment_overtook_is_not_begun_again() -> None:
    settled = paid(with_credits(a_hybrid_row()), at=END + DAY, **RENEWAL)

    assert row_of(told(settled.account, at=END, status="past_due")).status == "active"
    tied = told(settled.account, at=END + DAY, status="past_due")
    assert (tied.account is settled.account, tied.steps[0].kind) == (True, StepKind.READ_SUBSCRIPTIONS)


def test_cr_56_kc_45_the_plan_is_the_invoices_whichever_comes_first() -> None:
    scheduled = {"scheduled_plan": "commit", "scheduled_by": "user", "stripe_schedule_id": "sub_sched_1"}
    account = with_credits(a_hybrid_row(**scheduled))
    says = {"price": COMMIT, **RENEWAL}
    update = {"at": END, "schedule": "sub_sched_1", **says}
    one = row_of(paid(told(account, **update).account, at=END, amount_paid=5400, **says))
    decided = paid(account, at=END, amount_paid=5400, **says)
    other = row_of(told(decided.account, **update))

    for row in (one, other):
        assert (row.plan, row.current_period_end, row.scheduled_plan) == ("commit", NEXT_END, None)
    assert [step.kind for step in decided.steps] == [StepKind.KEEP_SCHEDULE]


UNREADABLE: list[dict[str, Any]] = [
    {"price": "price_unknown"},
    {"price": None},
    {"lines": {"data": []}},
    {"lines": None},
    {"lines": {"data": [{"pricing": {"price_details": {"price": COMMIT}}, "period": {"start": "?", "end": None}}]}},
    {"end": NOW},
    {"currency": "eur"},
]


@pytest.mark.parametrize("changes", UNREADABLE)
def test_cr_57_an_invoice_of_ours_that_cannot_be_read_is_parked(changes: dict[str, Any]) -> None:
    for account in (with_credits(a_hybrid_row()), with_credits(None), an_account(None)):
        with pytest.raises(UnreadableMessage):
            paid(account, **changes)


@pytest.mark.parametrize("changes", UNREADABLE)
def test_cr_57_other_invoices_are_none_of_our_business(changes: dict[str, Any]) -> None:
    account = with_credits(a_hybrid_row())
    foreign = paid(account, subscription="sub_x", metadata={}, **changes)
    one_off = paid(account, **{**changes, "parent": None})

    for decided in (foreign, one_off):
        assert (decided.account, decided.counts) == (account, {"foreign": 1})


def test_cr_57_an_invoice_of_an_older_version_is_read_by_its_own_shape() -> None:
    line = {"price": {"id": COMMIT}, "subscription": "sub_1", "period": {"start": 1_000_000, "end": 2_000_000}}
    decided = paid(with_credits(an_unsettled_row()), lines={"data": [line]}, charge={"id": "ch_7"})

    assert (row_of(decided).plan, entries(decided.account)) == ("commit", pair(25, "ch_7"))


@pytest.mark.parametrize("named", ["sub_1", {"id": "sub_1", "object": "subscription"}])
def test_kc_36_cr_57_an_invoice_that_names_its_subscription_as_older_versions_do_is_settled(named: Any) -> None:
    older = of_an_older_version(invoice_json(subscription=named))
    decided = delivered(with_credits(an_unsettled_row()), older)

    assert (row_of(decided).settled_at, entries(decided.account)) == (NOW, pair(25, "in_1"))


@pytest.mark.parametrize("changes", UNREADABLE)
def test_kc_36_cr_57_one_of_an_older_version_that_cannot_be_read_is_parked(changes: dict[str, Any]) -> None:
    for account in (with_credits(a_hybrid_row()), with_credits(None)):
        with pytest.raises(UnreadableMessage):
            delivered(account, of_an_older_version(invoice_json(**changes)))


def test_kc_36_cr_57_an_older_one_of_no_subscription_or_of_a_foreign_one_is_none_of_our_business() -> None:
    account = with_credits(a_hybrid_row())
    one_off = {**of_an_older_version(invoice_json()), "subscription": None, "subscription_details": None}
    foreign = of_an_older_version(invoice_json(subscription="sub_x", metadata=None))

    for invoice in (one_off, foreign):
        decided = delivered(account, invoice)
        assert (decided.account, decided.counts) == (account, {"foreign": 1})


def test_kc_39_a_direct_row_is_not_settled() -> None:
    direct = {**METADATA, "funding": "direct"}
    decided = paid(an_account(a_paid_row()), metadata=direct)

    assert [step.kind for step in decided.steps] == [StepKind.READ_SUBSCRIPTIONS]


def test_kc_100_no_access_and_no_start_before_the_first_settlement() -> None:
    suspended = a_trial(status="canceled", suspended_at=NOW, destruction_deadline=NOW + 7 * DAY, instance_id="inst-1")
    stopped = an_instance(desired_state="stopped", generation=2, done_generation=2)
    created = told(with_credits(suspended, stopped), "created")

    hosting = hosting_of(created.account)
    assert (row_of(created).payment_source, row_of(created).status) == ("credits", "active")
    assert not access(hosting, CATALOGUE, NOW).granted
    assert (activation(hosting), lock_reason(hosting, CATALOGUE, NOW)) == ("pending_settlement", None)
    swept = enforce(created.account, Circumstances(CATALOGUE, NOW), only={"resume"})
    assert hosting_of(swept.account).instances[0].desired_state == "stopped"

    settled = hosting_of(paid(swept.account).account)
    assert access(settled, CATALOGUE, NOW).granted
    assert settled.instances[0].desired_state == "running"


def test_cr_51_the_pair_and_the_row_are_one_decision_beside_other_credit() -> None:
    account = with_credits(a_hybrid_row(), entries=[a_deposit(0, "pi_x")])
    decided = paid(account, **RENEWAL)

    assert (len(entries(decided.account)), row_of(decided).current_period_end) == (3, NEXT_END)
