"""When a row's schedule is to be looked after, and what the row then says (KC-40, KC-45)."""

from pydantic import BaseModel, ConfigDict

from bursar.billing.account import Account
from bursar.billing.catalogue import Catalogue
from bursar.billing.kiloclaw.phases import KeptSchedule, ScheduleTerms
from bursar.billing.kiloclaw.rows import Subscription
from bursar.billing.operations import keeping
from bursar.billing.steps import Step
from bursar.billing.values import replace

KEEP_SCHEDULE = "kiloclaw-keep-schedule"


class KeepAsked(BaseModel):
    """Whose schedule, and what it is made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subscription_id: str
    terms: ScheduleTerms


def terms_of(row: Subscription, catalogue: Catalogue) -> ScheduleTerms:
    """What the row's schedule is made from."""
    return ScheduleTerms(user_id=row.user_id, prices=catalogue.prices, commit_ends_at=row.commit_ends_at)


def keep_steps(account: Account, row: Subscription, catalogue: Catalogue) -> tuple[Step, ...]:
    """Ask for the schedule of the row's subscription to be brought in order; nothing for a row without one.

    What is asked is a `KeepAsked` as JSON. It is written out here: every payment of a commit plan may ask for one, and
    by way of the models it takes four times as long.
    """
    if row.stripe_subscription_id is None:
        return ()
    known = catalogue.prices
    prices = {
        "standard": known.standard,
        "commit": known.commit,
        "earlybird_coupon_id": known.earlybird_coupon_id,
        "billing_starts_at": known.billing_starts_at and known.billing_starts_at.isoformat(),
    }
    ends_at = row.commit_ends_at and row.commit_ends_at.isoformat()
    terms = {"user_id": row.user_id, "prices": prices, "commit_ends_at": ends_at}
    asked = {"subscription_id": row.stripe_subscription_id, "terms": terms}
    return (keeping(account, KEEP_SCHEDULE, asked),)


def wants_schedule(row: Subscription) -> bool:
    """A commit plan that runs and stays has its schedule, and knows its end (KC-40)."""
    runs = row.plan == "commit" and row.status == "active" and not row.cancel_at_period_end
    return runs and row.stripe_subscription_id is not None and not (row.stripe_schedule_id and row.commit_ends_at)


def is_out_of_step(before: Subscription, after: Subscription, stripe_schedule_id: str | None) -> bool:
    """Whether what Stripe said of the subscription leaves something to do about its schedule."""
    if after.status == "canceled":
        return False
    plan_changed = before.plan != after.plan and before.stripe_schedule_id is not None
    return wants_schedule(after) or after.stripe_schedule_id != stripe_schedule_id or plan_changed


def with_kept(row: Subscription, kept: KeptSchedule) -> Subscription:
    """The row recording that schedule; without one, none. Only a commit plan has an end (KC-45)."""
    return replace(
        row,
        stripe_schedule_id=kept.schedule_id,
        commit_ends_at=kept.commit_ends_at if row.plan == "commit" else None,
        scheduled_plan=kept.scheduled_plan if kept.schedule_id else None,
        scheduled_by=kept.scheduled_by if kept.schedule_id else None,
    )
