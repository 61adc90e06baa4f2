"""Money that comes in (CR-10), as decisions."""

from typing import Any

import pytest

from bursar.billing.account import Account
from bursar.billing.credits.deposits import payment_succeeded, top_up_invoice_paid
from bursar.billing.credits.ledger import Credits
from bursar.billing.credits.payments import PaidInvoiceEvent, PaymentEvent
from bursar.billing.decision import Decision
from bursar.billing.errors import Retryable, UnreadableMessage
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


def test_cr_10_ms_6_a_top_up_that_is_nobodys_yet_or_in_another_currency_is_kept() -> None:
    customer = an_account(key="customer:cus_1").having(Credits())
    with pytest.raises(Retryable):
        paid(customer)
    with pytest.raises(Retryable):
        invoiced(customer)
    assert paid(customer, amount_received=0).account is customer
    with pytest.raises(UnreadableMessage):
        paid(EMPTY, currency="eur")
