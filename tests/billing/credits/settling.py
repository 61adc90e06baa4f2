"""Credit-funded rows and their invoices, for the tests of settlement."""

from datetime import datetime
from typing import Any

from bursar.billing.account import Account
from bursar.billing.credits.ledger import Credits, Entry, EntryKind
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.rows import Subscription, hosting_of
from bursar.billing.kiloclaw.stripe_events import invoice_event, subscription_event
from bursar.billing.stripe.objects import StripeInvoiceEvent
from tests.billing.kiloclaw.making import CATALOGUE, DAY, NOW, STANDARD, a_paid_row, an_event, event_json

METADATA = {"type": "kiloclaw", "userId": "ada", "plan": "standard", "funding": "credits"}


def a_hybrid_row(**changes: Any) -> Subscription:
    """A standard row, settled until 30 days from now."""
    settled = {"payment_source": "credits", "settled_at": NOW, "credit_renewal_at": NOW + 30 * DAY}
    return a_paid_row(**(settled | changes))


def an_unsettled_row(**changes: Any) -> Subscription:
    return a_hybrid_row(**({"settled_at": None, "credit_renewal_at": None} | changes))


def invoice_json(**changes: Any) -> dict[str, Any]:
    """An invoice as Stripe sends it; `price`, `start` and `end` go to its line, `metadata` to what it says of its
    subscription.
    """
    start, end = changes.pop("start", NOW), changes.pop("end", NOW + 30 * DAY)
    subscription_id = changes.pop("subscription", "sub_1")
    price = changes.pop("price", STANDARD)
    line = {
        "period": {"start": int(start.timestamp()), "end": int(end.timestamp())},
        "pricing": {"price_details": {"price": price, "product": "prod_1"}, "type": "price_details"},
        "parent": {"subscription_item_details": {"subscription": subscription_id, "proration": False}},
    }
    details = {"subscription": subscription_id, "metadata": changes.pop("metadata", METADATA)}
    return {
        "id": "in_1",
        "object": "invoice",
        "customer": "cus_1",
        "currency": "usd",
        "amount_paid": 2500,
        "status": "paid",
        "metadata": {},
        "lines": {"object": "list", "data": [line]},
        "parent": {"type": "subscription_details", "subscription_details": details},
    } | changes


def of_an_older_version(invoice: dict[str, Any]) -> dict[str, Any]:
    """The same invoice as it was before 2025: what it says of its subscription stands on itself."""
    details = invoice["parent"]["subscription_details"]
    older = {name: value for name, value in invoice.items() if name != "parent"}
    return {**older, "subscription": details["subscription"], "subscription_details": {"metadata": details["metadata"]}}


def paid(account: Account, event_id: str = "evt_in", at: datetime = NOW, **invoice: Any) -> Decision:
    return delivered(account, invoice_json(**invoice), event_id, at)


def delivered(account: Account, invoice: dict[str, Any], event_id: str = "evt_in", at: datetime = NOW) -> Decision:
    body = event_json("invoice.paid", invoice, at, event_id)
    return invoice_event(account, StripeInvoiceEvent.model_validate(body).read(), CATALOGUE)


def told(account: Account, kind: str = "updated", at: datetime = NOW, **subscription: Any) -> Decision:
    event = an_event(kind, at, **({"metadata": METADATA} | subscription))
    return subscription_event(account, event, CATALOGUE)


def row_of(decided: Decision) -> Subscription:
    row = hosting_of(decided.account).subscription
    assert row is not None
    return row


def entries(account: Account) -> list[tuple[str, int, str | None]]:
    """Kind, dollars and payment of each entry; the pairs are neutral."""
    credit = account.part(Credits)
    assert sum(one.amount_microdollars for one in credit.entries) == credit.balance_microdollars
    return [(one.kind, one.amount_microdollars // 1_000_000, one.payment_id) for one in credit.entries]


def pair(dollars: int, payment_id: str) -> list[tuple[str, int, str | None]]:
    return [("settlement_deposit", dollars, payment_id), ("settlement_charge", -dollars, payment_id)]


def an_old_deposit(business_key: str, payment_id: str = "ch_1", dollars: int = 25) -> Entry:
    return an_entry(EntryKind.DEPOSIT, dollars, business_key, payment_id)


def an_old_charge(business_key: str, dollars: int = 25) -> Entry:
    return an_entry(EntryKind.CHARGE, -dollars, business_key)


def an_entry(kind: EntryKind, dollars: int, business_key: str, payment_id: str | None = None) -> Entry:
    return Entry(
        kind=kind,
        amount_microdollars=dollars * 1_000_000,
        description="of before",
        business_key=business_key,
        cause="import",
        payment_id=payment_id,
    )
