"""Entries from before settlements were keyed by their payment (CR-54)."""

from datetime import UTC, datetime
from typing import Any

import pytest

from bursar.billing.credits.ledger import Credits, Entry
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.rows import Subscription
from tests.billing.credits.crediting import with_credits
from tests.billing.credits.settling import (
    a_hybrid_row,
    an_old_charge,
    an_old_deposit,
    paid,
    pair,
    row_of,
)
from tests.billing.kiloclaw.making import DAY, NOW

BEGINNING, END = datetime(2026, 6, 1, 9, tzinfo=UTC), datetime(2026, 7, 1, 9, tzinfo=UTC)
PERIOD: dict[str, Any] = {"start": BEGINNING, "end": END}
KEY = "kiloclaw-settlement:sub_1:2026-06-01"
OF_ANOTHER = "kiloclaw-settlement:sub_10:2026-06-01"
UNMATCHED = {"settlement_unmatched": 1}


def kept(decided: Decision) -> list[tuple[str, int, str | None]]:
    """The entries; the old ones were imported without the counters."""
    credit = decided.account.part(Credits)
    return [(one.kind, one.amount_microdollars // 1_000_000, one.payment_id) for one in credit.entries]


def a_row_before() -> Subscription:
    """Settled until the period of the old entries."""
    return a_hybrid_row(current_period_start=NOW - 31 * DAY, current_period_end=BEGINNING, credit_renewal_at=BEGINNING)


@pytest.mark.parametrize("deposit", [an_old_deposit("deposit:ch_1"), an_old_deposit(f"{KEY}:deposit")])
@pytest.mark.parametrize("charge_key", [KEY, f"{KEY}:charge"])
def test_cr_54_a_replay_that_one_old_deposit_and_one_charge_explain_adds_nothing(
    deposit: Entry, charge_key: str
) -> None:
    account = with_credits(a_row_before(), entries=[deposit, an_old_charge(charge_key)])
    decided = paid(account, charge="ch_1", **PERIOD)

    assert len(kept(decided)) == 2
    assert (decided.counts, row_of(decided).current_period_end) == ({"settled_before": 1}, END)


AMBIGUOUS: dict[str, list[Entry]] = {
    "two deposits and one charge": [
        an_old_deposit("deposit:ch_1"),
        an_old_deposit(f"{KEY}:ch_2", "ch_2"),
        an_old_charge(KEY),
    ],
    "a charge without its deposit": [an_old_charge(KEY)],
    "a deposit without its charge": [an_old_deposit("deposit:ch_1")],
    "different amounts": [an_old_deposit("deposit:ch_1"), an_old_charge(KEY, 20)],
    "two of each": [
        an_old_deposit(f"{KEY}:ch_1"),
        an_old_charge(f"{KEY}:1"),
        an_old_deposit(f"{KEY}:ch_2", "ch_2"),
        an_old_charge(f"{KEY}:2"),
    ],
}


@pytest.mark.parametrize("old", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_cr_54_what_cannot_be_matched_is_not_guessed_the_row_moves_and_operators_are_told(old: list[Entry]) -> None:
    account = with_credits(a_row_before(), entries=old)
    decided = paid(account, charge="ch_1", **PERIOD)

    assert (len(kept(decided)), decided.counts) == (len(old), UNMATCHED)
    row = row_of(decided)
    assert (row.status, row.current_period_end, row.credit_renewal_at) == ("active", END, END)


def test_cr_54_deposits_of_another_subscription_explain_nothing() -> None:
    foreign = [an_old_deposit(f"{OF_ANOTHER}:deposit", "ch_9"), an_old_charge(OF_ANOTHER)]
    new = paid(with_credits(a_row_before(), entries=foreign), charge="ch_1", **PERIOD)
    assert kept(new)[2:] == pair(25, "ch_1")

    charge_alone = [*foreign, an_old_charge(KEY)]
    assert paid(with_credits(a_row_before(), entries=charge_alone), charge="ch_1", **PERIOD).counts == UNMATCHED
    bearing_the_payment = [an_old_deposit(f"{OF_ANOTHER}:deposit", "ch_1"), an_old_charge(KEY)]
    assert paid(with_credits(a_row_before(), entries=bearing_the_payment), charge="ch_1", **PERIOD).counts == UNMATCHED


def test_cr_50_cr_54_a_further_payment_beside_a_matched_pair_is_a_pair_of_its_own() -> None:
    old = [an_old_deposit(f"{KEY}:deposit"), an_old_charge(KEY)]
    account = with_credits(a_row_before(), entries=old)

    assert kept(paid(account, charge="ch_2", **PERIOD))[2:] == pair(25, "ch_2")


def test_cr_54_an_invoice_without_its_charge_is_not_told_from_an_old_deposit_known_by_one() -> None:
    by_charge = [an_old_deposit(f"{KEY}:deposit", "ch_1"), an_old_charge(KEY)]
    assert paid(with_credits(a_row_before(), entries=by_charge), id="in_2", **PERIOD).counts == UNMATCHED

    by_invoice = [an_old_deposit(f"{KEY}:deposit", "in_1"), an_old_charge(KEY)]
    account = with_credits(a_row_before(), entries=by_invoice)
    assert paid(account, id="in_1", **PERIOD).counts == {"settled_before": 1}
    assert kept(paid(account, id="in_2", **PERIOD))[2:] == pair(25, "in_2")


def test_cr_54_old_entries_of_another_period_are_not_looked_at() -> None:
    old = [an_old_charge("kiloclaw-settlement:sub_1:2026-05-01")]

    assert kept(paid(with_credits(a_row_before(), entries=old), charge="ch_1", **PERIOD))[1:] == pair(25, "ch_1")
