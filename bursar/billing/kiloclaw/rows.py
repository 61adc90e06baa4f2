"""The rows of a hosted-instance customer and the part of the account that holds them."""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal, Self
from uuid import UUID

from bursar.billing.account import Account, Tracked
from bursar.billing.catalogue import PaidPlan, Plan
from bursar.billing.values import Value, field, replace

Status = Literal["trialing", "active", "past_due", "canceled", "unpaid"]
PaymentSource = Literal["stripe", "credits"]
ScheduledBy = Literal["auto", "user"]
DesiredState = Literal["running", "stopped", "destroyed"]


class Subscription(Value):
    """The user's `kiloclaw_subscriptions` row (KC-1). `version` grows with every change of it."""

    id: UUID
    user_id: str
    plan: Plan
    status: Status
    created_at: datetime
    version: int = 0
    payment_source: PaymentSource | None = None
    stripe_subscription_id: str | None = None
    stripe_customer_id: str | None = None
    stripe_schedule_id: str | None = None
    instance_id: str | None = None
    trial_started_at: datetime | None = None
    trial_ends_at: datetime | None = None
    current_period_start: datetime | None = None
    current_period_end: datetime | None = None
    cancel_at_period_end: bool = False
    commit_ends_at: datetime | None = None
    scheduled_plan: PaidPlan | None = None
    scheduled_by: ScheduledBy | None = None
    credit_renewal_at: datetime | None = None
    credit_anchor_at: datetime | None = None
    top_up_boundary: datetime | None = None
    settled_at: datetime | None = None
    past_due_since: datetime | None = None
    suspended_at: datetime | None = None
    destruction_deadline: datetime | None = None
    last_stripe_event_at: datetime | None = None
    last_read_at: datetime | None = None

    @property
    def is_pure_credit(self) -> bool:
        """Paid from the credit account alone (KC-1)."""
        return self.payment_source == "credits" and self.stripe_subscription_id is None

    @property
    def is_enrolled(self) -> bool:
        """Pays from credits alone, now: no subscription at Stripe takes its place (CR-25)."""
        return self.is_pure_credit and self.status == "active"

    @property
    def is_hybrid(self) -> bool:
        """Paid through Stripe, kept in credits (KC-1)."""
        return self.payment_source == "credits" and self.stripe_subscription_id is not None

    @property
    def is_settled(self) -> bool:
        """Hybrid, and one of its invoices has been settled: from then on they say plan and period (CR-55, CR-56)."""
        return self.is_hybrid and self.settled_at is not None


class Instance(Value):
    """A hosted instance and what we want of it (KC-2). `generation` grows with every change of the desired state."""

    id: str
    account_key: str
    created_at: datetime
    desired_state: DesiredState = "running"
    generation: int = 1
    done_generation: int = 1
    destroying_since: datetime | None = None
    destroyed_at: datetime | None = None

    @property
    def is_live(self) -> bool:
        """Not destroyed, and not on the way there (KC-73: from the mark on the user provisions anew)."""
        return self.destroyed_at is None and self.destroying_since is None

    def wanting(self, state: DesiredState) -> Self:
        """The instance with that desired state: the same one when it is wanted already (KC-77)."""
        if self.desired_state == state:
            return self
        return replace(self, desired_state=state, generation=self.generation + 1)


class PaidPeriod(Value, kw_only=True):
    """What a paid invoice of a subscription says: all that settling it needs (CR-50…CR-55), and nothing of a person."""

    invoice_id: str
    charge_id: str | None
    amount_cents: int
    plan: PaidPlan
    starts_at: datetime
    ends_at: datetime

    @property
    def payment_id(self) -> str:
        """What its entries are keyed by: the charge, else the invoice (CR-50)."""
        return self.charge_id or self.invoice_id


class EarlyEvent(Value):
    """What arrived for a subscription of ours that no row is bound to (KC-31), kept by its event id. A paid invoice is
    settled once a row is bound.
    """

    event_id: str
    stripe_subscription_id: str
    stripe_customer_id: str | None
    type: str
    occurred_at: datetime
    paid_period: PaidPeriod | None = None


class MailKey(Value):
    """What makes a mail one and the same (KC-3); `cycle` is empty for one-time mails."""

    email_type: str
    cycle: str = ""


class Hosting(Tracked):
    """The KiloClaw part of an account. A user has at most one subscription row and one live instance."""

    subscription: Subscription | None = None
    instances: tuple[Instance, ...] = ()
    mails: Mapping[MailKey, str] = field(default_factory=lambda: MappingProxyType({}))
    early_events: tuple[EarlyEvent, ...] = ()
    earlybird_payment_id: str | None = None
    unresolved_renewal_at: datetime | None = None  # the boundary whose renewal failed, an operator's (CR-62)

    @property
    def is_protected(self) -> bool:
        """Whether the row's renewal failed for a reason that is not its user's, and nobody settled that (CR-62)."""
        row, unresolved_at = self.subscription, self.unresolved_renewal_at
        return row is not None and unresolved_at is not None and row.credit_renewal_at == unresolved_at

    @property
    def live_instance(self) -> Instance | None:
        """The instance that runs or can be started again."""
        return next((instance for instance in self.instances if instance.is_live), None)

    @property
    def row_instance(self) -> Instance | None:
        """The live instance that the row points to (KC-61)."""
        live = self.live_instance
        return live if live and self.subscription and self.subscription.instance_id == live.id else None

    def with_instance(self, instance: Instance) -> Self:
        """The part with that instance added or replaced."""
        others = tuple(other for other in self.instances if other.id != instance.id)
        return replace(self, instances=(*others, instance))

    def rows(self) -> Mapping[tuple[str, str], Any]:
        """The rows whose changes the change log records (KC-4)."""
        rows: dict[tuple[str, str], Any] = {
            ("kiloclaw_instances", instance.id): instance for instance in self.instances
        }
        if self.subscription:
            rows["kiloclaw_subscriptions", self.subscription.user_id] = self.subscription
        return rows


def hosting_of(account: Account) -> Hosting:
    """The account's KiloClaw part."""
    return account.part(Hosting)


def with_instance(account: Account, instance: Instance | None) -> Account:
    """The account with that instance; without one, as it was."""
    if instance is None:
        return account
    return account.having(hosting_of(account).with_instance(instance))
