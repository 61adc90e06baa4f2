"""Who may use an instance (KC-100, KC-101): the one function that the status, the gate and the sweeps ask."""

from datetime import datetime
from typing import Literal

from bursar.billing.catalogue import Catalogue
from bursar.billing.kiloclaw.rows import Hosting, Subscription
from bursar.billing.values import Value

AccessReason = Literal["trial", "subscription", "earlybird"]


class Access(Value):
    """Whether, and by which cover."""

    granted: bool
    reason: AccessReason | None = None


REFUSED = Access(granted=False)


def access(hosting: Hosting, catalogue: Catalogue, now: datetime) -> Access:
    """Active; past due and not suspended; trialing with the end ahead; earlybird with its date ahead. Else refused."""
    row = hosting.subscription
    if row and _subscription_covers(row):
        return Access(granted=True, reason="subscription")
    if row and row.status == "trialing" and row.trial_ends_at and row.trial_ends_at > now:
        return Access(granted=True, reason="trial")
    if earlybird_covers(hosting, catalogue, now):
        return Access(granted=True, reason="earlybird")
    return REFUSED


def earlybird_covers(hosting: Hosting, catalogue: Catalogue, now: datetime) -> bool:
    """A purchase whose date is ahead: while it covers an instance no sweep stops it, whatever the row says (KC-101)."""
    return hosting.earlybird_payment_id is not None and catalogue.kiloclaw.earlybird.access_until > now


def trial_eligible(hosting: Hosting) -> bool:
    """No row, no instance ever (destroyed ones count), no earlybird purchase (KC-11)."""
    return hosting.subscription is None and not hosting.instances and hosting.earlybird_payment_id is None


def pending_settlement(row: Subscription) -> bool:
    """A credit-funded Stripe row gives nothing before its first settlement."""
    return row.is_hybrid and row.settled_at is None


def _subscription_covers(row: Subscription) -> bool:
    if pending_settlement(row):
        return False
    return row.status == "active" or (row.status == "past_due" and row.suspended_at is None)
