"""Ending subscriptions at Stripe: a deleted user's (KC-120), and those beside an enrolment in credits (CR-25)."""

from collections.abc import Iterable
from datetime import timedelta

from bursar.billing.account import Account
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.following import UNENDED
from bursar.billing.kiloclaw.rows import Subscription
from bursar.billing.steps import Step, StepKind
from bursar.billing.stripe.objects import StripeSubscription

# What may still be ended: `paused` and `incomplete` cost nothing yet, but may begin to.
ENDABLE = UNENDED | {"paused", "incomplete"}
BESIDE_CREDITS = "beside_credits"  # counted, and operators are alerted
# For so long Stripe sends an event again, and we may not have heard of what a user bought.
DELIVERED_WITHIN = timedelta(days=3)


def end_subscription(subscription_id: str, unused_invoice_id: str | None = None) -> Step:
    """Cancel it at once, and give back in full what paid that invoice."""
    payload = {"stripe_subscription_id": subscription_id}
    if unused_invoice_id:
        payload["unused_invoice_id"] = unused_invoice_id
    return Step(StepKind.END_SUBSCRIPTION, f"end-subscription:{subscription_id}", payload)


def ended_beside(account: Account, row: Subscription, ours: Iterable[StripeSubscription]) -> Decision:
    """The row keeps the period that is paid from credits; what lives beside it ends at Stripe, whatever came first."""
    live = [one for one in ours if one.status in ENDABLE]
    paid_for = sum(one.status in UNENDED for one in live)
    steps = tuple(end_subscription(one.id, one.latest_invoice if _is_unused(one, row) else None) for one in live)
    counts = {BESIDE_CREDITS: paid_for} if paid_for else {"read_nothing_to_follow": 1}
    named = ", ".join(one.id for one in live)
    return Decision(account, steps, reason=f"beside an enrolment in credits: {named}" if live else "", counts=counts)


def _is_unused(subscription: StripeSubscription, row: Subscription) -> bool:
    """Whether its period began when the user was enrolled, or was about to be: nothing of it was used."""
    enrolled_at = row.credit_anchor_at
    began_at = max(item.current_period_start for item in subscription.items)
    return enrolled_at is not None and began_at > enrolled_at - DELIVERED_WITHIN
