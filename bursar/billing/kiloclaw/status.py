"""What the product's billing page is told about a hosted-instance customer (KC-110…KC-113)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bursar.billing.calendar import whole_days_until
from bursar.billing.catalogue import Catalogue
from bursar.billing.credits.periods import next_cost_microdollars
from bursar.billing.kiloclaw.access import access, pending_settlement, trial_eligible
from bursar.billing.kiloclaw.rows import Hosting, Instance, Subscription

VERY_SOON_DAYS = 2  # KC-111; "soon" begins with the catalogue's early warnings

Section = Mapping[str, Any]


def billing_status(hosting: Hosting, catalogue: Catalogue, now: datetime) -> dict[str, Any]:
    """The whole status; instants are ISO 8601 in UTC, a section is None where there is nothing to tell (KC-110)."""
    granted = access(hosting, catalogue, now)
    return {
        "hasAccess": granted.granted,
        "accessReason": granted.reason,
        "trialEligible": trial_eligible(hosting),
        "banner": banner(hosting, catalogue, now),
        "lockReason": lock_reason(hosting, catalogue, now),
        "activation": activation(hosting),
        "trial": _trial(hosting.subscription, now),
        "subscription": _subscription(hosting.subscription, catalogue),
        "earlybird": _earlybird(hosting, catalogue, now),
        "instance": _instance(hosting),
    }


def banner(hosting: Hosting, catalogue: Catalogue, now: datetime) -> str:
    """The first banner that fits (KC-111)."""
    row = hosting.subscription
    if row and row.status in ("past_due", "unpaid"):
        return "subscription_past_due"
    if row and row.status == "active":
        return "subscription_canceling" if row.cancel_at_period_end else "subscribed"
    if row and row.status == "trialing" and row.trial_ends_at:
        return _trial_banner(whole_days_until(row.trial_ends_at, now), catalogue.kiloclaw.trial.early_warning_days)
    if access(hosting, catalogue, now).reason == "earlybird":
        terms = catalogue.kiloclaw.earlybird
        soon = whole_days_until(terms.access_until, now) < terms.early_warning_days
        return "earlybird_ending_soon" if soon else "earlybird_active"
    return "none"


def lock_reason(hosting: Hosting, catalogue: Catalogue, now: datetime) -> str | None:
    """Why the page is locked, only without access; None for a brand-new user, who is welcomed (KC-112)."""
    if access(hosting, catalogue, now).granted or activation(hosting):
        return None
    row, fate = hosting.subscription, "alive" if hosting.live_instance else "destroyed"
    if row and row.plan == "trial":
        return f"trial_expired_instance_{fate}"
    if row and row.status == "canceled":
        return f"subscription_expired_instance_{fate}"
    if row:
        return "past_due_grace_exceeded"
    if hosting.earlybird_payment_id:
        return "earlybird_expired"
    return "no_access" if hosting.instances else None


def activation(hosting: Hosting) -> str | None:
    """`pending_settlement` for a credit-funded Stripe row before its first settlement (KC-100)."""
    row = hosting.subscription
    waits = row is not None and row.status != "canceled" and pending_settlement(row)
    return "pending_settlement" if waits else None


def refusal_reason(hosting: Hosting, catalogue: Catalogue, now: datetime) -> str:
    """Why the gate refuses: the lock reason, or that nothing covers an instance yet."""
    return lock_reason(hosting, catalogue, now) or activation(hosting) or "no_access"


def _trial_banner(days: int, soon_days: int) -> str:
    if days == 0:
        return "trial_expires_today"
    if days <= VERY_SOON_DAYS:
        return "trial_ending_very_soon"
    return "trial_ending_soon" if days <= soon_days else "trial_active"


def _trial(row: Subscription | None, now: datetime) -> Section | None:
    if row is None or row.plan != "trial" or row.trial_ends_at is None:
        return None
    return {
        "startedAt": _iso(row.trial_started_at),
        "endsAt": _iso(row.trial_ends_at),
        "daysRemaining": whole_days_until(row.trial_ends_at, now),
        "expired": row.trial_ends_at <= now,
    }


def _subscription(row: Subscription | None, catalogue: Catalogue) -> Section | None:
    """KC-113: the switch that the user asked for stands apart from the automatic transition."""
    if row is None or row.plan == "trial":
        return None
    automatic = row.scheduled_by == "auto"
    return {
        "plan": row.plan,
        "status": row.status,
        "cancelAtPeriodEnd": row.cancel_at_period_end,
        "currentPeriodEnd": _iso(row.current_period_end),
        "commitEndsAt": _iso(row.commit_ends_at),
        "scheduledPlan": row.scheduled_plan if row.scheduled_by == "user" else None,
        "automaticTransition": {"plan": row.scheduled_plan, "at": _iso(row.commit_ends_at)} if automatic else None,
        "paymentSource": row.payment_source,
        "has_stripe_funding": row.stripe_subscription_id is not None,
        "nextRenewalAt": _iso(row.credit_renewal_at),
        "nextRenewalCostMicrodollars": next_cost_microdollars(row, catalogue.kiloclaw.credits),
        "pastDueSince": _iso(row.past_due_since),
    }


def _earlybird(hosting: Hosting, catalogue: Catalogue, now: datetime) -> Section | None:
    if hosting.earlybird_payment_id is None:
        return None
    until = catalogue.kiloclaw.earlybird.access_until
    return {"purchased": True, "expiresAt": _iso(until), "daysRemaining": whole_days_until(until, now)}


def _instance(hosting: Hosting) -> Section | None:
    """The live instance, else the one that was destroyed last."""
    instance = hosting.live_instance or _latest(hosting)
    if instance is None:
        return None
    row = hosting.subscription
    concerned = row if row and row.instance_id == instance.id else None
    return {
        "id": instance.id,
        "desiredState": instance.desired_state,
        "settled": instance.done_generation == instance.generation,
        "destroyed": not instance.is_live,
        "suspendedAt": _iso(concerned.suspended_at) if concerned else None,
        "destructionDeadline": _iso(concerned.destruction_deadline) if concerned else None,
    }


def _latest(hosting: Hosting) -> Instance | None:
    return max(hosting.instances, key=lambda one: one.created_at, default=None)


def _iso(instant: datetime | None) -> str | None:
    return instant.isoformat() if instant else None
