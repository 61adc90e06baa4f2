"""Canceling at the period's end: the schedule is released, then the flag is set, at Stripe and then here (KC-50)."""

from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict

from bursar.billing.account import Account
from bursar.billing.calendar import add_months
from bursar.billing.credits.periods import is_committed
from bursar.billing.decision import Decision
from bursar.billing.errors import Refused
from bursar.billing.kiloclaw.following import status_of
from bursar.billing.kiloclaw.operations.schedule import released, standing_schedule
from bursar.billing.kiloclaw.phases import COMMIT_MONTHS
from bursar.billing.kiloclaw.row_changes import with_row
from bursar.billing.kiloclaw.rows import Subscription, hosting_of
from bursar.billing.kiloclaw.scheduling import keep_steps
from bursar.billing.kiloclaw.stripe_events import reading
from bursar.billing.operations import Ended, Operation, OperationFacts, Plan, begin
from bursar.billing.stripe.calls import Call, Method
from bursar.billing.stripe.objects import StripeSubscription
from bursar.billing.stripe.schedules import StripeSchedule
from bursar.billing.values import replace

NAME = "kiloclaw-cancel"
CANCELABLE = frozenset({"active", "past_due"})


class Cancellation(BaseModel):
    """A cancellation as it was decided, with the row's version then."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subscription_id: str
    row_version: int
    commit_ends_at: AwareDatetime | None = None


def cancel(account: Account, command_id: str) -> Decision:
    """Cancel at the period's end; a pure-credit row here only (KC-53). Parts: Hosting, Operations."""
    row = hosting_of(account).subscription
    if row is None or row.status not in CANCELABLE:
        raise _no_subscription()
    if row.cancel_at_period_end:
        raise Refused("already_canceling", "The subscription is being canceled already.")
    if row.stripe_subscription_id is None:
        return _canceled_here(account, row)
    asked = Cancellation(
        subscription_id=row.stripe_subscription_id, row_version=row.version, commit_ends_at=row.commit_ends_at
    )
    return begin(account, NAME, asked, command_id)


def plan(asked: Cancellation) -> Plan:
    """Look first: one that ended is refused, one that is being canceled at Stripe already is done.

    Raises `Refused("foreign_schedule")` where a schedule that is not ours manages it.
    """
    subscription = yield Call("read-subscription", Method.RETRIEVE_SUBSCRIPTION, asked.subscription_id)
    if status_of(subscription) == "canceled":
        raise _no_subscription()
    if not (subscription.cancel_at_period_end or subscription.cancel_at):
        standing = yield from standing_schedule(subscription)
        if standing:
            yield from released(standing.id)
        paid_until = _paid_beyond_the_period(subscription, standing, asked.commit_ends_at)
        if paid_until:
            yield _carried_to(asked.subscription_id, paid_until)
        subscription = yield _flag("set-flag", asked.subscription_id, _flag("clear-flag", asked.subscription_id))
    return pending(subscription.cancel_at or subscription.items[0].current_period_end)


def apply(account: Account, asked: Cancellation, ended: Ended, facts: OperationFacts) -> Decision:
    """Set the flag here and clear the schedule's fields. What was released and not canceled is scheduled again."""
    row = hosting_of(account).subscription
    if row is None or row.stripe_subscription_id != asked.subscription_id or row.status == "canceled":
        return reading(account, "cancel_overtaken")
    if ended.failure:
        had_schedule = row.stripe_schedule_id is not None or row.plan == "commit"
        steps = keep_steps(account, row, facts.catalogue) if had_schedule else ()
        return Decision(account, steps, counts={"cancel_failed": 1})
    canceled = _canceled_here(account, row)
    if row.version == asked.row_version:
        return canceled
    return canceled.then(reading(canceled.account, "row_moved"))


def pending(ends_at: datetime | None) -> dict[str, Any]:
    """The answer to the caller: access lasts until then (KC-51)."""
    return {"cancel_at_period_end": True, "ends_at": ends_at.isoformat() if ends_at else None}


def _paid_beyond_the_period(
    subscription: StripeSubscription, schedule: StripeSchedule | None, commit_ends_at: datetime | None
) -> datetime | None:
    """How far a renewed commitment is paid, without the months that its schedule has still to bill: before billing has
    begun these are the first six (KC-47).
    """
    is_known = subscription.status == "active" or (subscription.status == "trialing" and schedule is not None)
    if commit_ends_at is None or not is_known:
        return None
    to_come = schedule.remaining[1:-1] if schedule else ()  # the last is the standard plan
    to_be_billed = sum(not phase.is_trial for phase in to_come)
    paid_until = add_months(commit_ends_at, -COMMIT_MONTHS * to_be_billed)
    return paid_until if paid_until > subscription.items[0].current_period_end else None


def _carried_to(subscription_id: str, paid_until: datetime) -> Call:
    """A trial as long as what is paid makes its end the period's: access lasts until then, and nothing is billed on
    the way (KC-51). Should the flag fail, it does no harm: a renewed schedule has the same trial.
    """
    params = {"trial_end": int(paid_until.timestamp()), "proration_behavior": "none"}
    return Call("carry-to-paid-end", Method.UPDATE_SUBSCRIPTION, subscription_id, params)


def _flag(name: str, subscription_id: str, undo: Call | None = None) -> Call:
    params = {"cancel_at_period_end": undo is not None}
    return Call(name, Method.UPDATE_SUBSCRIPTION, subscription_id, params, undo)


def _canceled_here(account: Account, row: Subscription) -> Decision:
    after = replace(row, cancel_at_period_end=True, stripe_schedule_id=None, scheduled_plan=None, scheduled_by=None)
    saved = account if after == row else with_row(account, after)
    answer = pending(_paid_until(row))
    return Decision(saved, reason="canceled by the user", counts={"canceled": 1}, result=answer)


def _paid_until(row: Subscription) -> datetime | None:
    """The period's end; of a commitment from credits that was renewed ahead, its own, which is paid for (CR-36)."""
    ends_at = row.current_period_end
    if row.is_pure_credit and ends_at and is_committed(row, ends_at):
        return row.commit_ends_at
    return ends_at


def _no_subscription() -> Refused:
    return Refused("no_subscription", "There is no subscription to cancel.")


CANCEL = Operation(NAME, Cancellation, plan, apply)
