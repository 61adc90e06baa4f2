"""A ledger that was loaded for certain payments answers about these, and refuses to guess about others (CR-53)."""

from collections.abc import Callable

import pytest

from bursar.billing.credits.ledger import Credits, Entry, EntryKind

OLD_KEY = "kiloclaw-settlement:sub_1:2026-01-01"
OLD = Entry(EntryKind.DEPOSIT, 9, "old", f"{OLD_KEY}:ch_1", "evt_0", "ch_1")
OLDER = Entry(EntryKind.DEPOSIT, 9, "older", f"{OLD_KEY[:-1]}0", "evt_0", "ch_0")
NEW = Entry(EntryKind.SETTLEMENT_DEPOSIT, 9, "new", "settlement:in_1", "evt_1", "in_1")
CREDIT = Credits(entries=(OLDER, OLD, NEW), of_payments=frozenset({"in_1", "in_2"}))


def test_it_answers_about_the_payments_it_was_loaded_for_and_the_old_settlements() -> None:
    assert CREDIT.of_payment(["in_1", "in_2"]) == (NEW,)
    assert CREDIT.of_payment(["in_1"], EntryKind.DEPOSIT) == ()
    assert CREDIT.old_settlements(OLD_KEY) == (OLD,)


@pytest.mark.parametrize(
    "ask",
    [
        lambda credit: credit.of_payment(["in_1", "ch_1"]),
        lambda credit: credit.has("settlement:in_1"),
        lambda credit: credit.has_cause("evt_1"),
        lambda credit: credit.old_settlements("settlement:in_1"),
    ],
)
def test_it_raises_where_it_may_not_have_been_loaded(ask: Callable[[Credits], object]) -> None:
    with pytest.raises(LookupError):
        ask(CREDIT)
