"""Comparing a row with what Stripe says of its subscription, and having a difference repaired (MS-10)."""

from datetime import datetime, timedelta
from enum import StrEnum

from bursar.billing.account import Account
from bursar.billing.catalogue import Catalogue
from bursar.billing.decision import Decision
from bursar.billing.errors import UnknownStripeStatus, UnreadableMessage
from bursar.billing.kiloclaw.following import PAYING, UNENDED, follow_read
from bursar.billing.kiloclaw.rows import EarlyEvent, Subscription, hosting_of
from bursar.billing.kiloclaw.scheduling import keep_steps, wants_schedule
from bursar.billing.kiloclaw.stripe_events import CREATED, reading
from bursar.billing.stripe.objects import StripeSubscription
from bursar.billing.values import Value, replace

STALE_AFTER = timedelta(days=35)  # a month's renewal tells something of every live subscription before
# Of a row in credits the settlement of invoices says these (CR-55, CR-56).
SETTLED_FIELDS = frozenset({"plan", "current_period_start", "current_period_end", "commit_ends_at"})


class FindingKind(StrEnum):
    """How a row and a subscription may fail to fit."""

    MISSING_HERE = "missing_here"  # lives at Stripe, and no row is bound to it
    MISSING_THERE = "missing_there"  # a row is bound to it, and Stripe does not know it
    DIFFERENT = "different"
    STALE = "stale"  # fits, but nothing was heard of it for long
    UNREADABLE = "unreadable"  # Stripe's object follows no rule


REPAIRABLE = frozenset({FindingKind.MISSING_HERE, FindingKind.DIFFERENT, FindingKind.STALE})


class Finding(Value):
    """One misfit. `fields` names what differs, never its value; `account_key` is None where nobody can be told."""

    kind: FindingKind
    stripe_subscription_id: str
    account_key: str | None = None
    fields: tuple[str, ...] = ()
    subscription: StripeSubscription | None = None

    @property
    def is_repairable(self) -> bool:
        """Whether reading the customer's subscriptions again can help."""
        return self.kind in REPAIRABLE and self.account_key is not None


class Owned(Value):
    """A row and its account."""

    account_key: str
    row: Subscription


def compared(
    subscription: StripeSubscription,
    owned: Owned | None,
    owner_key: str | None,
    catalogue: Catalogue,
    listed_at: datetime,
) -> Finding | None:
    """What is wrong with one of our subscriptions, listed at that instant of business time; `owner_key` is the account
    that it names. None for one that fits, one that ended and nobody is bound to, and a row that moved since.
    """
    if owned is None:
        lives = subscription.status in UNENDED
        return Finding(FindingKind.MISSING_HERE, subscription.id, owner_key, (), subscription) if lives else None
    heard_at = _last_heard(owned.row)
    if heard_at >= listed_at:
        return None
    try:
        fields = _differing(owned.row, subscription, catalogue, listed_at)
    except (UnknownStripeStatus, UnreadableMessage):
        return Finding(FindingKind.UNREADABLE, subscription.id, owned.account_key)
    if fields:
        return Finding(FindingKind.DIFFERENT, subscription.id, owned.account_key, fields)
    if subscription.status in UNENDED and heard_at < listed_at - STALE_AFTER:
        return Finding(FindingKind.STALE, subscription.id, owned.account_key)
    return None


def repaired(account: Account, finding: Finding, catalogue: Catalogue, now: datetime) -> Decision:
    """Have Stripe read, and the schedule of a commit plan kept; what is read decides (KC-30, KC-32, KC-40).

    A subscription that no row is bound to is remembered as if its `created` had come now (KC-31). One that a read saw
    beside the active one that is bound changes nothing (KC-30).
    """
    found = finding.subscription
    row = hosting_of(account).subscription
    if finding.kind is FindingKind.MISSING_HERE and found and row and _stayed_beside(row, found):
        return Decision.nothing(account, "beside_a_live_one")
    if finding.kind is FindingKind.MISSING_HERE and found and not (row and row.stripe_subscription_id == found.id):
        return reading(_remembering(account, found, now), "repairs_asked")
    asked = reading(account, "repairs_asked")
    if row is None or not wants_schedule(row):
        return asked
    return replace(asked, steps=(*asked.steps, *keep_steps(account, row, catalogue)))


def _stayed_beside(row: Subscription, found: StripeSubscription) -> bool:
    was_read = row.last_read_at is not None and found.created is not None and row.last_read_at > found.created
    return was_read and row.status == "active" and row.stripe_subscription_id is not None


def _remembering(account: Account, found: StripeSubscription, now: datetime) -> Account:
    hosting = hosting_of(account)
    early = EarlyEvent(f"reconcile:{found.id}", found.id, found.customer, CREATED, found.created or now)
    if any(one.event_id == early.event_id for one in hosting.early_events):
        return account
    return account.having(replace(hosting, early_events=(*hosting.early_events, early)))


def _differing(
    row: Subscription, subscription: StripeSubscription, catalogue: Catalogue, listed_at: datetime
) -> tuple[str, ...]:
    followed = follow_read(row, subscription, listed_at, catalogue)
    differing = {name for name, value in followed.items() if getattr(row, name) != value}
    if row.is_hybrid:
        differing -= SETTLED_FIELDS
    if row.is_hybrid and not row.is_settled and subscription.status in PAYING:
        differing.add("settled_at")  # it is paid there, and gives no access here
    runs_without_schedule = subscription.schedule is None and wants_schedule(row)
    if row.status != "canceled" and (row.stripe_schedule_id != subscription.schedule or runs_without_schedule):
        differing.add("stripe_schedule_id")
    return tuple(sorted(differing))


def _last_heard(row: Subscription) -> datetime:
    return max(one for one in (row.created_at, row.last_stripe_event_at, row.last_read_at) if one)
