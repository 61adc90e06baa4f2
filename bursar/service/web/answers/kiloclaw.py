"""Answers about a hosted instance: trial, provisioning, the commands on the subscription, and the gate."""

from typing import Literal

from pydantic import AwareDatetime, Field

from bursar.billing.catalogue import PaidPlan, Plan
from bursar.billing.kiloclaw.access import AccessReason
from bursar.billing.kiloclaw.rows import ScheduledBy, Status
from bursar.service.web.answers import Answer, BillingPageAnswer, example


class TrialAnswer(Answer):
    """The trial that began."""

    model_config = example(plan="trial", status="trialing", trial_ends_at="2026-07-01T08:00:00+00:00")

    plan: Plan
    status: Status
    trial_ends_at: AwareDatetime | None


class InstanceAnswer(Answer):
    """The instance that was allowed, or is destroyed."""

    model_config = example(instance_id="inst-1")

    instance_id: str


class EarlybirdAnswer(Answer):
    """The payment of the one-time purchase."""

    model_config = example(payment_id="pi_3QxK")

    payment_id: str


class AccessAnswer(BillingPageAnswer):
    """The gate is open; a closed one is the problem `no_access`."""

    model_config = example(hasAccess=True, accessReason="subscription")

    has_access: Literal[True]
    access_reason: AccessReason


class CheckoutAnswer(Answer):
    """Stripe's page on which the user subscribes."""

    model_config = example(url="https://checkout.stripe.com/c/pay/cs_live_a1", session_id="cs_live_a1")

    url: str = Field(description="Send the user there.")
    session_id: str


class CancellationAnswer(Answer):
    """The cancellation that is pending."""

    model_config = example(cancel_at_period_end=True, ends_at="2026-07-01T08:00:00+00:00")

    cancel_at_period_end: Literal[True]
    ends_at: AwareDatetime | None = Field(description="Until when access lasts.")


class ReactivationAnswer(Answer):
    """No cancellation is pending any more."""

    model_config = example(cancel_at_period_end=False)

    cancel_at_period_end: Literal[False]


class ScheduledPlanAnswer(Answer):
    """Which plan follows, and when a commitment ends."""

    model_config = example(scheduled_plan="commit", scheduled_by="user", commit_ends_at=None)

    scheduled_plan: PaidPlan | None = Field(description="The plan that follows; null where none is scheduled.")
    scheduled_by: ScheduledBy | None = Field(description="`auto`: a commitment becomes standard by itself.")
    commit_ends_at: AwareDatetime | None = Field(description="Null without a commitment.")


class RenewedCommitAnswer(Answer):
    """How far the commitment goes now."""

    model_config = example(commit_ends_at="2027-06-01T08:00:00+00:00")

    commit_ends_at: AwareDatetime | None = Field(description="Null only where it has ended since.")


class PortalAnswer(Answer):
    """Stripe's billing portal, for this user, for a short time."""

    model_config = example(url="https://billing.stripe.com/p/session/live_a1")

    url: str = Field(description="Send the user there at once.")
