"""Following Stripe: what a subscription, as Stripe shows it, means for the row (KC-33…KC-38)."""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import TypedDict

from bursar.billing.catalogue import Catalogue, PaidPlan
from bursar.billing.errors import UnknownStripeStatus, UnreadableMessage
from bursar.billing.kiloclaw.rows import PaymentSource, ScheduledBy, Status, Subscription
from bursar.billing.stripe.objects import StripeSubscription, SubscriptionItem
from bursar.billing.values import Value, replace

STATUS_OF = MappingProxyType[str, Status](
    {
        "trialing": "active",
        "active": "active",
        "past_due": "past_due",
        "unpaid": "unpaid",
        "incomplete": "unpaid",
        "canceled": "canceled",
        "incomplete_expired": "canceled",
        "paused": "canceled",
    }
)
PLAN_NAMED = MappingProxyType[str, PaidPlan]({"standard": "standard", "commit": "commit"})
PAYING = frozenset({"active", "trialing"})
UNENDED = PAYING | {"past_due", "unpaid"}
DUNNING = frozenset({"past_due", "unpaid"})
UNKNOWN_PRICE = "unknown_price"  # counted and logged
NEVER_BEGUN = frozenset({"incomplete", "incomplete_expired"})


class Offer(Value):
    """What the subscription sells: the plan, the item it was read from, and whether its price was known (KC-34)."""

    plan: PaidPlan
    item: SubscriptionItem
    price_known: bool


def status_of(subscription: StripeSubscription) -> Status:
    """KC-33; UnknownStripeStatus for a status that no rule knows."""
    try:
        return STATUS_OF[subscription.status]
    except KeyError:
        message = f"unknown subscription status {subscription.status!r}"
        raise UnknownStripeStatus(message) from None


def offer_of(subscription: StripeSubscription, catalogue: Catalogue) -> Offer:
    """The plan by the live price id; by the metadata only when no price is known (KC-34)."""
    for item in subscription.items:
        plan = catalogue.prices.plan_of(item.price)
        if plan:
            return Offer(plan, item, price_known=True)
    named = PLAN_NAMED.get(subscription.metadata.get("plan", ""))
    if named:
        return Offer(named, subscription.items[0], price_known=False)
    message = "neither a known price nor a plan in the metadata"
    raise UnreadableMessage(message)


class Followed(TypedDict):
    """The fields of a row that follow Stripe."""

    plan: PaidPlan
    status: Status
    stripe_customer_id: str | None
    current_period_start: datetime
    current_period_end: datetime
    cancel_at_period_end: bool
    commit_ends_at: datetime | None
    past_due_since: datetime | None
    credit_renewal_at: datetime | None
    stripe_schedule_id: str | None
    scheduled_plan: PaidPlan | None
    scheduled_by: ScheduledBy | None
    suspended_at: datetime | None
    destruction_deadline: datetime | None


def follow(row: Subscription, subscription: StripeSubscription, at: datetime, catalogue: Catalogue) -> Followed:
    """What the bound row shall say, given what an event told of the subscription at that instant."""
    whole = _follow_whole(row, subscription, at, catalogue)
    if not row.is_settled:
        return whole
    return _follow_settled(row, whole, _status_told(row, whole["status"], at))


def follow_read(row: Subscription, subscription: StripeSubscription, at: datetime, catalogue: Catalogue) -> Followed:
    """Likewise for what was read at Stripe, whose status counts as it is: whoever is live there is not destroyed here
    (KC-74).
    """
    whole = _follow_whole(row, subscription, at, catalogue)
    return _follow_settled(row, whole, whole["status"]) if row.is_settled else whole


def is_overtaken(row: Subscription, subscription: StripeSubscription, at: datetime) -> bool:
    """Whether a dunning of a settled row ties with its payment: which came first is for Stripe to say."""
    return row.is_settled and row.settled_at == at and status_of(subscription) in DUNNING


def _status_told(row: Subscription, status: Status, at: datetime) -> Status:
    """CR-56: an event only begins a dunning, unless a payment came after it; an invoice ends it (CR-55)."""
    if status in DUNNING and row.settled_at and at <= row.settled_at:
        return row.status
    return row.status if status == "active" and row.status in DUNNING else status


def _follow_settled(row: Subscription, whole: Followed, status: Status) -> Followed:
    """CR-56: plan and period are the settled invoice's."""
    ended, active = status == "canceled", status == "active"
    ends_at = row.current_period_end or whole["current_period_end"]
    return Followed(
        plan="commit" if row.plan == "commit" else "standard",
        status=status,
        stripe_customer_id=whole["stripe_customer_id"],
        current_period_start=row.current_period_start or whole["current_period_start"],
        current_period_end=min(ends_at, whole["current_period_end"]) if ended else ends_at,
        cancel_at_period_end=whole["cancel_at_period_end"],
        commit_ends_at=row.commit_ends_at,
        past_due_since=(row.past_due_since or whole["past_due_since"]) if status in DUNNING else None,
        credit_renewal_at=None if ended else row.credit_renewal_at,
        stripe_schedule_id=None if ended else row.stripe_schedule_id,
        scheduled_plan=None if ended else row.scheduled_plan,
        scheduled_by=None if ended else row.scheduled_by,
        suspended_at=None if active else row.suspended_at,
        destruction_deadline=None if active else row.destruction_deadline,
    )


def _follow_whole(row: Subscription, subscription: StripeSubscription, at: datetime, catalogue: Catalogue) -> Followed:
    status = status_of(subscription)
    offer = offer_of(subscription, catalogue)
    ended, active = status == "canceled", status == "active"
    arrived = ended or row.scheduled_plan == offer.plan  # what comes after it is seen at the schedule (KC-45)
    return Followed(
        plan=offer.plan,
        status=status,
        stripe_customer_id=subscription.customer or row.stripe_customer_id,
        current_period_start=offer.item.current_period_start,
        current_period_end=_period_end(subscription, offer.item),
        cancel_at_period_end=subscription.cancel_at_period_end or subscription.cancel_at is not None,
        commit_ends_at=row.commit_ends_at if offer.plan == "commit" else None,
        past_due_since=(row.past_due_since or at) if status in DUNNING else None,
        credit_renewal_at=None if ended else row.credit_renewal_at,
        stripe_schedule_id=None if ended else row.stripe_schedule_id,
        scheduled_plan=None if arrived else row.scheduled_plan,
        scheduled_by=None if arrived else row.scheduled_by,
        suspended_at=None if active else row.suspended_at,
        destruction_deadline=None if active else row.destruction_deadline,
    )


def differs(row: Subscription, changes: Mapping[str, object]) -> bool:
    """Whether these changes would change the row."""
    return any(getattr(row, name) != value for name, value in changes.items())


def bound(row: Subscription, subscription: StripeSubscription) -> Subscription:
    """The row bound to another subscription: what belonged to the former one is forgotten (KC-30).

    One that gives access, past due included, ends the suspension: its own grace begins with it (KC-71, KC-74).
    """
    accessible = STATUS_OF.get(subscription.status) in ("active", "past_due")
    source: PaymentSource = "credits" if subscription.metadata.get("funding") == "credits" else "stripe"
    return replace(
        row,
        payment_source=source,
        stripe_subscription_id=subscription.id,
        past_due_since=None,
        suspended_at=None if accessible else row.suspended_at,
        destruction_deadline=None if accessible else row.destruction_deadline,
        commit_ends_at=None,
        credit_renewal_at=None,
        credit_anchor_at=None,
        settled_at=None,
        stripe_schedule_id=None,
        scheduled_plan=None,
        scheduled_by=None,
        last_stripe_event_at=None,
        last_read_at=None,
    )


def _period_end(subscription: StripeSubscription, item: SubscriptionItem) -> datetime:
    """KC-37: an end before the period's own counts, so that an immediate or unpaid end does not run on."""
    if subscription.ended_at is None:
        return item.current_period_end
    return min(item.current_period_end, subscription.ended_at)
