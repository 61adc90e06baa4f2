"""Money that goes back (CR-11), as decisions: at once where its payment is known, else remembered (MS-3)."""

from itertools import permutations
from typing import Any

import msgspec
import pytest

from bursar.billing.account import Account
from bursar.billing.credits.invoice_search import InvoiceSearch
from bursar.billing.credits.ledger import Credits, Entry, EntryKind, Reversal
from bursar.billing.credits.payments import ChargeEvent, DisputeEvent
from bursar.billing.credits.reversals import (
    charge_refunded,
    dispute_closed,
    handed_over,
    invoices_found,
    with_early_reversals,
)
from bursar.billing.decision import Decision
from bursar.billing.errors import Permanent, UnreadableMessage
from bursar.billing.steps import StepKind
from tests.billing.credits.crediting import balance, with_credits
from tests.billing.credits.test_deposits import EMPTY, TOP_UP, invoiced, kinds, paid
from tests.billing.kiloclaw.making import NOW, an_account, event_json

Refund = tuple[int, int | None]  # cents refunded by now, and before, where Stripe says it


def refunded(
    account: Account, cents: int, event_id: str = "evt_refund", *, before: int | None = None, **changes: Any
) -> Decision:
    """Stripe says how much of the charge is refunded by now, and perhaps how much was before."""
    charge = {
        "id": "ch_1",
        "amount": 2000,
        "amount_refunded": cents,
        "currency": "usd",
        "payment_intent": "pi_1",
        "metadata": TOP_UP,
    }
    event = event_json("charge.refunded", charge | changes, NOW, f"{event_id}_{cents}")
    if before is not None:
        event["data"]["previous_attributes"] = {"amount_refunded": before, "refunded": False}
    return charge_refunded(account, ChargeEvent.model_validate(event))


def disputed(account: Account, **changes: Any) -> Decision:
    dispute = {
        "id": "du_1",
        "amount": 2000,
        "currency": "usd",
        "status": "lost",
        "charge": "ch_1",
        "payment_intent": "pi_1",
    }
    event = event_json("charge.dispute.closed", dispute | changes, NOW, "evt_dispute")
    return dispute_closed(account, DisputeEvent.model_validate(event))


def test_cr_11_a_refund_withdraws_once_and_together_never_more_than_the_payment() -> None:
    account = paid(EMPTY).account
    for cents, left in ((500, 15), (500, 15), (1200, 8), (700, 8), (2000, 0), (9000, 0)):
        account = refunded(account, cents, f"evt_{left}").account
        assert balance(account) == left


def test_cr_11_a_lost_dispute_withdraws_what_no_refund_did() -> None:
    account = disputed(refunded(paid(EMPTY).account, 500).account).account
    assert kinds(account) == [("deposit", 20), ("refund", -5), ("dispute", -15)]
    assert disputed(account).account is account
    assert disputed(account, id="du_2").account is account


@pytest.mark.parametrize("status", ["won", "warning_closed", "needs_response"])
def test_cr_11_a_dispute_that_is_not_lost_withdraws_nothing(status: str) -> None:
    account = paid(EMPTY).account
    assert disputed(account, status=status).account is account


def test_cr_2_cr_11_money_that_was_spent_takes_the_balance_below_zero() -> None:
    spent = with_credits(None, entries=paid(EMPTY).account.part(Credits).entries)
    assert balance(refunded(spent, 2000).account) == -20


def test_cr_11_refunding_a_settled_invoice_writes_a_neutral_pair() -> None:
    settled = Entry(
        kind=EntryKind.SETTLEMENT_DEPOSIT,
        amount_microdollars=25_000_000,
        description="settled",
        business_key="settlement:ch_1",
        cause="evt_0",
        payment_id="ch_1",
    )
    account = with_credits(None, entries=[settled])
    for cents in (1000, 1000, 2500):
        account = refunded(account, cents, amount=2500, metadata={}).account
    account = disputed(account, amount=2500).account

    assert kinds(account)[1:] == [
        ("settlement_deposit", -10),
        ("settlement_charge", 10),
        ("settlement_deposit", -15),
        ("settlement_charge", 15),
    ]
    assert balance(account) == 0


@pytest.mark.parametrize("order", list(permutations([(500, 0), (1200, 500), (2000, 1200)])))
def test_cr_11_each_refund_is_its_own_entry_whatever_their_order(order: tuple[Refund, ...]) -> None:
    account = paid(EMPTY).account
    for cents, before in (*order, *order):
        account = refunded(account, cents, before=before).account
    taken = {one.business_key: one.amount_microdollars for one in account.part(Credits).entries[1:]}
    assert taken == {"refund:ch_1:500": -5_000_000, "refund:ch_1:1200": -7_000_000, "refund:ch_1:2000": -8_000_000}


@pytest.mark.parametrize("told", [(None, None, 1200), (0, None, None), (None, 500, None), (None, None, None)])
def test_cr_11_refunds_that_do_not_say_what_was_before_are_complete_in_any_order(told: tuple[int | None, ...]) -> None:
    for order in permutations(zip((500, 1200, 2000), told, strict=True)):
        account = paid(EMPTY).account
        for cents, before in (*order, *order):
            account = refunded(account, cents, before=before).account
        assert balance(account) == 0, order


def test_cr_11_a_refund_after_one_that_failed_is_taken_by_its_total() -> None:
    account = refunded(paid(EMPTY).account, 500, before=900).account
    assert kinds(account) == [("deposit", 20), ("refund", -5)]


def test_cr_11_what_cannot_be_ours_is_forgotten() -> None:
    for decided in (refunded(EMPTY, 500, metadata={}, currency="eur"), disputed(EMPTY, currency="eur")):
        assert decided.account is EMPTY
        assert decided.counts == {"foreign": 1}
    assert refunded(EMPTY, 0).account is EMPTY
    for other in (EMPTY, paid(EMPTY).account):
        with pytest.raises(UnreadableMessage):
            refunded(other, 500, currency="eur")


def remembered(decided: Decision) -> Reversal:
    (waiting,) = decided.account.part(Credits).early_reversals
    assert decided.counts == {"remembered": 1}
    assert kinds(decided.account) == []
    return waiting


@pytest.mark.parametrize("metadata", [TOP_UP, {}])
@pytest.mark.parametrize("key", ["user:ada", "customer:cus_1"])
def test_ms_3_cr_11_a_refund_that_comes_before_its_payment_is_remembered_and_withdraws_then(
    key: str, metadata: dict[str, str]
) -> None:
    early = remembered(refunded(an_account(key=key).having(Credits()), 500, metadata=metadata))
    after = with_early_reversals(paid(EMPTY).account, (early,))
    assert kinds(after) == [("deposit", 20), ("refund", -5)]
    assert refunded(after, 500).account is after


def test_ms_3_cr_11_a_dispute_that_comes_before_its_payment_is_remembered_and_withdraws_then() -> None:
    early = remembered(disputed(an_account(key="payment:pi_1").having(Credits())))
    after = with_early_reversals(paid(EMPTY).account, (early,))
    assert kinds(after) == [("deposit", 20), ("dispute", -20)]
    assert disputed(after).account is after


def test_ms_3_reversals_that_waited_together_are_taken_in_an_order_of_their_own() -> None:
    early = [remembered(one) for one in (disputed(EMPTY), refunded(EMPTY, 2000), refunded(EMPTY, 500))]
    ends = {tuple(kinds(with_early_reversals(paid(EMPTY).account, order))) for order in permutations(early)}
    assert ends == {(("deposit", 20), ("refund", -5), ("refund", -15))}


def test_cr_11_stripe_is_asked_which_invoice_was_paid_once_for_each_reversal() -> None:
    for decided in (refunded(EMPTY, 500), disputed(EMPTY)):
        (step,) = decided.steps
        search = msgspec.convert(step.payload, InvoiceSearch)
        assert (step.kind, step.key) == (StepKind.FIND_INVOICE, f"find-invoice:{search.reversal.business_key}")
        assert search.call is not None
        assert search.call.params["payment"]["payment_intent"] == "pi_1"
    assert disputed(EMPTY, payment_intent=None).steps == ()
    assert disputed(paid(EMPTY).account).steps == ()


def test_cr_11_an_invoice_that_is_found_is_one_more_name_of_the_payment() -> None:
    early = remembered(disputed(EMPTY))
    assert remembered(invoices_found(EMPTY, early, ("in_1",))).payment_ids == ("pi_1", "ch_1", "in_1")
    assert invoices_found(EMPTY, early, ()).account is EMPTY

    known = invoices_found(invoiced(EMPTY).account, early, ("in_1",)).account
    assert kinds(known) == [("deposit", 20), ("dispute", -20)]


def test_cr_11_taken_under_several_names_of_the_payment_it_is_still_no_more_than_the_payment() -> None:
    invoice = invoiced(EMPTY).account
    lost = remembered(disputed(EMPTY))
    refund = remembered(refunded(EMPTY, 500))
    for first, second in permutations((lost, refund)):
        account = invoices_found(invoice, first, ("in_1",)).account
        account = invoices_found(account, second, ("in_1",)).account
        assert balance(account) == 0


def test_cr_11_what_was_handed_over_is_never_dropped_in_silence() -> None:
    early = remembered(disputed(EMPTY))
    assert kinds(handed_over(paid(EMPTY).account, early, ()).account) == [("deposit", 20), ("dispute", -20)]
    with pytest.raises(Permanent):
        handed_over(EMPTY, early, ())
