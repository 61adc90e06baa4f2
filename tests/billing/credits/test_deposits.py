"""Money that comes in and goes back (CR-10, CR-11), as decisions."""

from itertools import permutations
from typing import Any

import pytest

from bursar.billing.account import Account
from bursar.billing.credits.deposits import (
    charge_refunded,
    dispute_closed,
    payment_succeeded,
    top_up_invoice_paid,
    with_early_disputes,
)
from bursar.billing.credits.ledger import Credits, Entry, EntryKind
from bursar.billing.credits.payments import ChargeEvent, DisputeEvent, PaidInvoiceEvent, PaymentEvent
from bursar.billing.decision import Decision
from bursar.billing.errors import UnreadableMessage
from tests.billing.credits.crediting import balance, with_credits
from tests.billing.kiloclaw.making import NOW, an_account, event_json

TOP_UP = {"type": "credit_topup", "userId": "ada"}


def paid(account: Account, event_id: str = "evt_paid", **changes: Any) -> Decision:
    payment = {"id": "pi_1", "amount_received": 2000, "currency": "usd", "metadata": TOP_UP} | changes
    event = event_json("payment_intent.succeeded", payment, NOW, event_id)
    return payment_succeeded(account, PaymentEvent.model_validate(event))


def invoiced(account: Account, **changes: Any) -> Decision:
    invoice = {"id": "in_1", "amount_paid": 2000, "currency": "usd", "metadata": TOP_UP} | changes
    event = event_json("invoice.paid", invoice, NOW, "evt_invoiced")
    return top_up_invoice_paid(account, PaidInvoiceEvent.model_validate(event))


def refunded(account: Account, cents: int, event_id: str = "evt_refund", **changes: Any) -> Decision:
    """Stripe says how much of the charge is refunded by now."""
    charge = {
        "id": "ch_1",
        "amount": 2000,
        "amount_refunded": cents,
        "currency": "usd",
        "payment_intent": "pi_1",
        "metadata": TOP_UP,
    }
    event = event_json("charge.refunded", charge | changes, NOW, f"{event_id}_{cents}")
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


EMPTY = with_credits(None)


def kinds(account: Account) -> list[tuple[str, int]]:
    return [(one.kind, one.amount_microdollars // 1_000_000) for one in account.part(Credits).entries]


def test_cr_10_a_paid_top_up_deposits_its_amount_once_whatever_event_brings_it() -> None:
    account = paid(EMPTY).account
    assert kinds(account) == [("deposit", 20)]
    assert balance(account) == 20

    assert paid(account, "evt_other").account is account
    assert invoiced(account, payment_intent="pi_1").account is account
    by_its_payment = invoiced(
        account, payments={"data": [{"payment": {"type": "payment_intent", "payment_intent": "pi_1"}}]}
    )
    assert by_its_payment.account is account
    assert balance(invoiced(account).account) == 40, "another payment"


@pytest.mark.parametrize("changes", [{"metadata": {}}, {"metadata": {"type": "kiloclaw"}}, {"amount_received": 0}])
def test_cr_10_what_is_no_paid_top_up_deposits_nothing(changes: dict[str, Any]) -> None:
    assert paid(EMPTY, **changes).account is EMPTY


def test_cr_10_an_account_without_a_user_and_another_currency_get_nothing() -> None:
    customer = an_account(key="customer:cus_1").having(Credits())
    assert paid(customer).account is customer
    with pytest.raises(UnreadableMessage):
        paid(EMPTY, currency="eur")


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


def test_cr_11_refunds_in_any_order_with_the_deposit_end_the_same() -> None:
    for order in permutations((0, 500, 2000)):  # cents refunded by then, or the payment itself
        account = EMPTY
        for cents in (*order, *order):
            account = (refunded(account, cents) if cents else paid(account)).account
        assert balance(account) == 0, order
        assert account.part(Credits).acquired_microdollars == 0


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


def test_cr_11_what_nobody_here_paid_is_none_of_our_business() -> None:
    for decided in (refunded(EMPTY, 500, metadata={}), disputed(EMPTY, currency="eur")):
        assert decided.account is EMPTY
        assert decided.counts == {"foreign": 1}


def test_cr_11_a_dispute_that_comes_before_its_payment_is_remembered_and_withdraws_then() -> None:
    early = disputed(EMPTY)
    assert kinds(early.account) == []
    (waiting,) = early.account.part(Credits).early_disputes
    after = with_early_disputes(paid(EMPTY).account, (waiting,))
    assert kinds(after) == [("deposit", 20), ("dispute", -20)]
    assert disputed(after).account is after
