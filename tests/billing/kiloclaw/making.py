"""Rows, accounts and events for the tests of the rules."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from bursar.billing.account import Account, Profile
from bursar.billing.catalogue import Catalogue, EarlybirdTerms, KiloclawTerms, Prices
from bursar.billing.kiloclaw.rows import EarlyEvent, Hosting, Instance, Subscription
from bursar.billing.stripe.invoices import InvoiceEvent
from bursar.billing.stripe.objects import StripeInvoiceEvent, StripeSubscription, SubscriptionEvent
from bursar.billing.values import replace

NOW = datetime(2026, 6, 1, 9, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
STANDARD, COMMIT = "price_standard", "price_commit"
CATALOGUE = Catalogue(
    kiloclaw=KiloclawTerms(earlybird=EarlybirdTerms(access_until=datetime(2026, 9, 26, tzinfo=UTC))),
    prices=Prices(standard=(STANDARD,), commit=(COMMIT,)),
)
ROW_ID = UUID("00000000-0000-5000-8000-000000000001")


def a_trial(**changes: Any) -> Subscription:
    row = Subscription(
        id=ROW_ID,
        user_id="ada",
        plan="trial",
        status="trialing",
        version=1,
        trial_started_at=NOW,
        trial_ends_at=NOW + 30 * DAY,
        created_at=NOW,
    )
    return replace(row, **changes)


def a_paid_row(**changes: Any) -> Subscription:
    row = Subscription(
        id=ROW_ID,
        user_id="ada",
        plan="standard",
        status="active",
        version=1,
        payment_source="stripe",
        stripe_subscription_id="sub_1",
        stripe_customer_id="cus_1",
        current_period_start=NOW,
        current_period_end=NOW + 30 * DAY,
        last_stripe_event_at=NOW,
        created_at=NOW,
    )
    return replace(row, **changes)


def an_instance(**changes: Any) -> Instance:
    return replace(Instance(id="inst-1", account_key="user:ada", created_at=NOW), **changes)


def an_account(
    row: Subscription | None = None,
    *instances: Instance,
    early: tuple[EarlyEvent, ...] = (),
    profile: Profile | None = None,
    key: str = "user:ada",
) -> Account:
    hosting = Hosting(subscription=row, instances=instances, early_events=early)
    return Account(key, {Hosting: hosting, Profile: profile or Profile("ada")})


def with_instance_row(row: Subscription, instance: Instance | None = None) -> Account:
    """An account whose row points to its one instance."""
    owned = instance or an_instance()
    return an_account(replace(row, instance_id=owned.id), owned)


def subscription_json(**changes: Any) -> dict[str, Any]:
    """A subscription as Stripe sends it; `price`, `start` and `end` go to its item."""
    item = {
        "price": {"id": changes.pop("price", STANDARD)},
        "current_period_start": int(changes.pop("start", NOW).timestamp()),
        "current_period_end": int(changes.pop("end", NOW + 30 * DAY).timestamp()),
    }
    return {
        "id": "sub_1",
        "object": "subscription",
        "status": "active",
        "customer": "cus_1",
        "created": int(NOW.timestamp()),
        "metadata": {"type": "kiloclaw", "userId": "ada", "plan": "standard"},
        "items": {"object": "list", "data": [item]},
        "cancel_at_period_end": False,
        "cancel_at": None,
        "ended_at": None,
        "schedule": None,
    } | changes


def a_stripe_subscription(**changes: Any) -> StripeSubscription:
    return StripeSubscription.model_validate(subscription_json(**changes))


def an_event(kind: str = "updated", at: datetime = NOW, event_id: str = "evt_1", **changes: Any) -> SubscriptionEvent:
    body = event_json(f"customer.subscription.{kind}", subscription_json(**changes), at, event_id)
    return SubscriptionEvent.model_validate(body)


def an_invoice_event(
    event_type: str = "invoice.paid", subscription_id: str = "sub_1", metadata: Mapping[str, str] | None = None
) -> InvoiceEvent:
    details = {"subscription": subscription_id, "metadata": metadata if metadata is not None else {"type": "kiloclaw"}}
    invoice = {"id": "in_1", "customer": "cus_1", "parent": {"subscription_details": details}}
    return StripeInvoiceEvent.model_validate(event_json(event_type, invoice, NOW, "evt_in")).read()


def event_json(event_type: str, stripe_object: Mapping[str, Any], at: datetime, event_id: str) -> dict[str, Any]:
    return {
        "id": event_id,
        "object": "event",
        "type": event_type,
        "created": int(at.timestamp()),
        "data": {"object": stripe_object},
    }
