"""The answer that the billing page is drawn from (KC-110…KC-113)."""

from typing import Literal

from pydantic import AwareDatetime, Field

from bursar.billing.catalogue import PaidPlan
from bursar.billing.kiloclaw.access import AccessReason
from bursar.billing.kiloclaw.rows import DesiredState, PaymentSource, Status
from bursar.service.web.answers import BillingPageAnswer, example

Banner = Literal[
    "subscription_past_due",
    "subscription_canceling",
    "subscribed",
    "trial_active",
    "trial_ending_soon",
    "trial_ending_very_soon",
    "trial_expires_today",
    "earlybird_active",
    "earlybird_ending_soon",
    "none",
]
LockReason = Literal[
    "trial_expired_instance_alive",
    "trial_expired_instance_destroyed",
    "subscription_expired_instance_alive",
    "subscription_expired_instance_destroyed",
    "past_due_grace_exceeded",
    "earlybird_expired",
    "no_access",
]
Activation = Literal["pending_settlement"]


class TrialSection(BillingPageAnswer):
    """The user's trial."""

    started_at: AwareDatetime | None
    ends_at: AwareDatetime
    days_remaining: int = Field(description="Whole days, 0 on the last one.")
    expired: bool


class AutomaticTransition(BillingPageAnswer):
    """What a commitment becomes by itself."""

    plan: PaidPlan | None
    at: AwareDatetime | None


class SubscriptionSection(BillingPageAnswer):
    """The user's subscription."""

    plan: PaidPlan
    status: Status
    cancel_at_period_end: bool
    current_period_end: AwareDatetime | None
    commit_ends_at: AwareDatetime | None = Field(description="Null without a commitment.")
    scheduled_plan: PaidPlan | None = Field(description="The switch that the user asked for.")
    automatic_transition: AutomaticTransition | None
    payment_source: PaymentSource | None
    has_stripe_funding: bool = Field(alias="has_stripe_funding")
    next_renewal_at: AwareDatetime | None = Field(description="Of a renewal from credits.")
    next_renewal_cost_microdollars: int | None = Field(
        description="A microdollar is a millionth of a US dollar; null where nothing is renewed from credits."
    )
    past_due_since: AwareDatetime | None


class EarlybirdSection(BillingPageAnswer):
    """The one-time purchase."""

    purchased: Literal[True]
    expires_at: AwareDatetime
    days_remaining: int


class InstanceSection(BillingPageAnswer):
    """The instance that lives, else the one that was destroyed last."""

    id: str
    desired_state: DesiredState
    settled: bool = Field(description="Whether that state is brought about.")
    destroyed: bool
    suspended_at: AwareDatetime | None
    destruction_deadline: AwareDatetime | None = Field(description="When it is destroyed unless it is paid for.")


class BillingStatusAnswer(BillingPageAnswer):
    """The whole status; a section is null where there is nothing to tell."""

    model_config = example(
        hasAccess=True,
        accessReason="trial",
        trialEligible=False,
        banner="trial_ending_soon",
        lockReason=None,
        activation=None,
        trial={
            "startedAt": "2026-06-01T08:00:00+00:00",
            "endsAt": "2026-07-01T08:00:00+00:00",
            "daysRemaining": 4,
            "expired": False,
        },
        subscription=None,
        earlybird=None,
        instance={
            "id": "inst-1",
            "desiredState": "running",
            "settled": True,
            "destroyed": False,
            "suspendedAt": None,
            "destructionDeadline": None,
        },
    )

    has_access: bool
    access_reason: AccessReason | None = Field(description="Null without access.")
    trial_eligible: bool
    banner: Banner
    lock_reason: LockReason | None = Field(description="Why the page is locked; null with access and for a new user.")
    activation: Activation | None = Field(description="The first payment of a new subscription is awaited.")
    trial: TrialSection | None
    subscription: SubscriptionSection | None
    earlybird: EarlybirdSection | None
    instance: InstanceSection | None
