"""Checkout: a page at Stripe on which a user subscribes (KC-20…KC-23)."""

import math
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict

from bursar.billing.account import Account, Profile
from bursar.billing.catalogue import Catalogue, Funding, PaidPlan
from bursar.billing.customers import CustomerWanted, customer, customer_learnt, with_customer
from bursar.billing.decision import Decision
from bursar.billing.errors import CallRefused, Refused
from bursar.billing.kiloclaw.rows import Hosting, hosting_of
from bursar.billing.operations import Ended, Operation, OperationFacts, Plan, begin
from bursar.billing.stripe.calls import Call, Method
from bursar.billing.stripe.objects import StripeSubscription
from bursar.billing.values import Value

NAME = "kiloclaw-checkout"
MAX_EXPIRED = 10  # open sessions: each checkout expires the ones before, and Stripe the rest within a day
MAX_CANCELED = 5  # incomplete subscriptions: Stripe expires them within a day
DAY = timedelta(days=1)
# Stripe refuses a trial end less than 48 hours ahead; the call may be made up to 15 minutes after the decision.
LEAST_TRIAL = timedelta(hours=48, minutes=15)
ENDED_AT_STRIPE = frozenset({"canceled", "incomplete_expired"})  # all others are live, the unknown ones too
SUBSCRIBED = frozenset({"active", "past_due", "unpaid"})


class WantedCheckout(Value):
    """What the caller says: the plan, where Stripe sends the user afterwards, and who referred the user."""

    plan: PaidPlan
    success_url: str
    cancel_url: str
    referral: str | None = None


class Checkout(BaseModel):
    """A checkout as it was decided. At most one of `trial_ends_at` and `trial_days` is there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    customer: CustomerWanted
    plan: PaidPlan
    price_id: str
    funding: Funding
    success_url: str
    cancel_url: str
    referral: str | None = None
    coupon_id: str | None = None
    trial_ends_at: datetime | None = None
    trial_days: int | None = None


def check_out(
    account: Account, wanted: WantedCheckout, catalogue: Catalogue, now: datetime, command_id: str
) -> Decision:
    """Ask for a session unless the user is subscribed (KC-20). Parts: Profile, Hosting, Operations."""
    hosting = hosting_of(account)
    row = hosting.subscription
    if row and row.status in SUBSCRIBED:
        raise _already_subscribed()
    trial_ends_at, trial_days = _trial(catalogue.prices.billing_starts_at, now)
    asked = Checkout(
        customer=CustomerWanted.of(account.part(Profile), row.stripe_customer_id if row else None),
        plan=wanted.plan,
        price_id=catalogue.prices.sold(wanted.plan),
        funding=catalogue.kiloclaw.checkout.funding,
        success_url=wanted.success_url,
        cancel_url=wanted.cancel_url,
        referral=wanted.referral,
        coupon_id=_coupon(hosting, wanted.plan, catalogue),
        trial_ends_at=trial_ends_at,
        trial_days=trial_days,
    )
    return begin(account, NAME, asked, command_id)


def plan(asked: Checkout) -> Plan:
    """Expire the older sessions, then look for a subscription: one that was paid for meanwhile is seen (KC-22)."""
    customer_id = yield from customer(asked.customer)
    opened = yield Call(
        "list-open-sessions", Method.LIST_CHECKOUT_SESSIONS, params={"customer": customer_id, "status": "open"}
    )
    yield from _expire([one.id for one in opened.data if one.metadata.get("type") == "kiloclaw"])
    known = yield Call(
        "list-subscriptions", Method.LIST_SUBSCRIPTIONS, params={"customer": customer_id, "status": "all"}
    )
    yield from _make_way([one for one in known.data if one.is_kiloclaw])
    undo = Call("expire-session", Method.EXPIRE_CHECKOUT_SESSION)
    session = yield Call(
        "create-session",
        Method.CREATE_CHECKOUT_SESSION,
        params=session_params(asked, customer_id),
        undo=undo,
        fades=True,
    )
    return {"url": session.url, "session_id": session.id}


def apply(account: Account, asked: Checkout, ended: Ended, _: OperationFacts) -> Decision:
    """Keep the customer, however it ended; the row follows the subscription once it is there (KC-30)."""
    kept = with_customer(account, customer_learnt(asked.customer, ended.answers))
    return Decision(kept, reason="checkout", counts={"checkout_failed" if ended.failure else "checkout_opened": 1})


def session_params(asked: Checkout, customer_id: str) -> dict[str, Any]:
    """What Stripe is asked for (KC-21). It refuses a discount together with promotion codes."""
    metadata = {
        "type": "kiloclaw",
        "userId": asked.customer.user_id,
        "plan": asked.plan,
        "funding": asked.funding,
    }
    params: dict[str, Any] = {
        "mode": "subscription",
        "customer": customer_id,
        "line_items": [{"price": asked.price_id, "quantity": 1}],
        "success_url": asked.success_url,
        "cancel_url": asked.cancel_url,
        "metadata": metadata,
        "subscription_data": {"metadata": metadata} | _trial_params(asked),
    }
    if asked.referral:
        params["client_reference_id"] = asked.referral
    if asked.coupon_id:
        params["discounts"] = [{"coupon": asked.coupon_id}]
    elif asked.plan == "standard":
        params["allow_promotion_codes"] = True
    return params


def _expire(session_ids: Iterable[str]) -> Plan:
    """Stripe's refusal is ignored: the session was completed or expired meanwhile (KC-22)."""
    for session_id in list(session_ids)[:MAX_EXPIRED]:
        try:
            yield Call(f"expire:{session_id}", Method.EXPIRE_CHECKOUT_SESSION, session_id)
        except CallRefused:
            continue
    return {}


def _make_way(ours: list[StripeSubscription]) -> Plan:
    """Refuse where one is live; cancel the incomplete ones, which would become live beside the new one (KC-20)."""
    incomplete = [one.id for one in ours if one.status == "incomplete"]
    if any(one.status not in ENDED_AT_STRIPE and one.id not in incomplete for one in ours):
        raise _already_subscribed()
    for subscription_id in incomplete[:MAX_CANCELED]:
        try:
            yield Call(f"cancel:{subscription_id}", Method.CANCEL_SUBSCRIPTION, subscription_id)
        except CallRefused as refusal:
            if refusal.code != "resource_missing":  # expired meanwhile
                raise
    return {}


def _trial(billing_starts_at: datetime | None, now: datetime) -> tuple[datetime | None, int | None]:
    """Nothing is charged before the billing start: a trial until then; too near for Stripe, in days rounded up."""
    if billing_starts_at is None or billing_starts_at <= now:
        return None, None
    ahead = billing_starts_at - now
    return (billing_starts_at, None) if ahead >= LEAST_TRIAL else (None, math.ceil(ahead / DAY))


def _trial_params(asked: Checkout) -> dict[str, int]:
    if asked.trial_ends_at:
        return {"trial_end": math.ceil(asked.trial_ends_at.timestamp())}
    return {"trial_period_days": asked.trial_days} if asked.trial_days else {}


def _coupon(hosting: Hosting, plan: PaidPlan, catalogue: Catalogue) -> str | None:
    """Earlybird users have one on the standard plan."""
    entitled = hosting.earlybird_payment_id is not None and plan == "standard"
    return catalogue.prices.earlybird_coupon_id if entitled else None


def _already_subscribed() -> Refused:
    return Refused("already_subscribed", "You already have a subscription.")


CHECKOUT = Operation(NAME, Checkout, plan, apply)
