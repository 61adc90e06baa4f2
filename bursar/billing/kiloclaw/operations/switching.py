"""Switching the plan at the end of what runs, and taking that back (KC-42…KC-44)."""

from collections.abc import Generator
from typing import Any

from pydantic import BaseModel, ConfigDict

from bursar.billing.account import Account
from bursar.billing.catalogue import Catalogue, PaidPlan
from bursar.billing.decision import Decision
from bursar.billing.errors import Refused
from bursar.billing.kiloclaw.following import status_of
from bursar.billing.kiloclaw.operations.schedule import (
    ensure_schedule,
    recorded,
    released,
    running,
    standing_or_new,
    standing_schedule,
    written,
)
from bursar.billing.kiloclaw.phases import (
    Json,
    KeptSchedule,
    ScheduleTerms,
    commit_course,
    plan_sold,
    shown,
    stays_commit,
    switch_to_commit,
    without_schedule,
)
from bursar.billing.kiloclaw.row_changes import with_row
from bursar.billing.kiloclaw.rows import ScheduledBy, Subscription, hosting_of
from bursar.billing.kiloclaw.scheduling import terms_of
from bursar.billing.operations import Ended, Operation, OperationFacts, Plan, begin
from bursar.billing.stripe.calls import Call, Method
from bursar.billing.stripe.objects import StripeSubscription
from bursar.billing.stripe.schedules import StripeSchedule
from bursar.billing.values import replace

SWITCH_NAME, UNSWITCH_NAME = "kiloclaw-switch-plan", "kiloclaw-cancel-plan-switch"
MESSAGES = {
    "not_active": "Only an active subscription can be switched.",
    "same_plan": "The subscription is on this plan already.",
    "cancellation_pending": "The subscription is being canceled: reactivate it first.",
    "no_pending_switch": "No switch of the plan is pending.",
}


class Switch(BaseModel):
    """A switch as it was decided, or one to be taken back: `target` is then None."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subscription_id: str
    target: PaidPlan | None
    terms: ScheduleTerms


def switch_plan(account: Account, target: PaidPlan, catalogue: Catalogue, command_id: str) -> Decision:
    """Switch at the end of the period, or of the commitment (KC-42); a pure-credit row here only, which its renewal
    then applies (CR-35). Parts: Hosting, Operations.
    """
    row = hosting_of(account).subscription
    if row is None or row.status != "active":
        raise refused("not_active")
    if row.cancel_at_period_end:
        raise refused("cancellation_pending")
    if row.plan == target:
        raise refused("same_plan")
    if row.stripe_subscription_id is None:
        return _scheduled_here(account, row, target, "user")
    asked = Switch(subscription_id=row.stripe_subscription_id, target=target, terms=terms_of(row, catalogue))
    return begin(account, SWITCH_NAME, asked, command_id)


def cancel_plan_switch(account: Account, catalogue: Catalogue, command_id: str) -> Decision:
    """Take the user's switch back; an automatic transition is none (KC-43, KC-44). Parts: Hosting, Operations."""
    row = hosting_of(account).subscription
    if row is None or row.scheduled_by != "user":
        raise refused("no_pending_switch")
    if row.stripe_subscription_id is None:
        return _unscheduled_here(account, row)
    asked = Switch(subscription_id=row.stripe_subscription_id, target=None, terms=terms_of(row, catalogue))
    return begin(account, UNSWITCH_NAME, asked, command_id)


def switch(asked: Switch) -> Plan:
    """What stands at Stripe is read first. A schedule of ours, automatic or not, is rewritten in place: there is no
    moment without one, and a refusal leaves the former as it was (KC-42, KC-43).
    """
    assert asked.target, "a switch has a target"
    subscription = yield _read(asked)
    if status_of(subscription) != "active":
        raise refused("not_active")
    if subscription.cancel_at_period_end or subscription.cancel_at:
        raise refused("cancellation_pending")
    if plan_sold(subscription, asked.terms.prices) == asked.target:
        raise refused("same_plan")
    schedule = yield from standing_or_new(subscription)
    phases = _phases(subscription, schedule, asked.target, asked.terms)
    rewritten = yield from written(schedule, phases, "user", asked.target, asked.terms)
    return shown(rewritten, asked.terms.prices).model_dump(mode="json")


def take_back(asked: Switch) -> Plan:
    """A commit plan's schedule becomes the automatic one again, in place (KC-43); any other is released (KC-44)."""
    subscription = yield _read(asked)
    standing = yield from standing_schedule(subscription)
    if standing and shown(standing, asked.terms.prices).scheduled_by == "auto":
        raise refused("no_pending_switch")
    kept = yield from _taken_back(subscription, standing, asked.terms)
    return kept.model_dump(mode="json")


def apply(account: Account, asked: Switch, ended: Ended, _: OperationFacts) -> Decision:
    """Record the schedule; a failure leaves the row's fields as they are (KC-46)."""
    if ended.result is None:
        return Decision.nothing(account, "switch_failed")
    decision = recorded(account, asked.subscription_id, KeptSchedule.model_validate(ended.result))
    reason = f"switch to {asked.target} scheduled by the user" if asked.target else "switch taken back by the user"
    return replace(decision, reason=reason)


def refused(code: str) -> Refused:
    """Why a plan cannot be switched."""
    return Refused(code, MESSAGES[code])


def _read(asked: Switch) -> Call:
    return Call("subscription", Method.RETRIEVE_SUBSCRIPTION, target=asked.subscription_id)


def _phases(
    subscription: StripeSubscription, schedule: StripeSchedule, target: PaidPlan, terms: ScheduleTerms
) -> list[Json]:
    if target == "commit":
        return switch_to_commit(running(schedule), subscription.items[0].current_period_end, terms)
    return commit_course(running(schedule), terms)


def _taken_back(
    subscription: StripeSubscription, standing: StripeSchedule | None, terms: ScheduleTerms
) -> Generator[Call, Any, KeptSchedule]:
    if not stays_commit(subscription, terms.prices):
        if standing:
            yield from released(standing.id)
        return without_schedule(subscription, terms)
    if standing is None:
        return (yield from ensure_schedule(subscription, terms))
    automatic = yield from written(standing, commit_course(running(standing), terms), "auto", "standard", terms)
    return shown(automatic, terms.prices)


def _unscheduled_here(account: Account, row: Subscription) -> Decision:
    if row.plan == "commit":
        return _scheduled_here(account, row, "standard", "auto")
    return _scheduled_here(account, row, None, None)


def _scheduled_here(account: Account, row: Subscription, target: PaidPlan | None, by: ScheduledBy | None) -> Decision:
    after = replace(row, scheduled_plan=target, scheduled_by=by)
    saved = account if after == row else with_row(account, after)
    result = KeptSchedule(commit_ends_at=row.commit_ends_at, scheduled_plan=target, scheduled_by=by)
    return Decision(saved, reason="switch here", counts={"switched": 1}, result=result.model_dump(mode="json"))


SWITCH = Operation(SWITCH_NAME, Switch, switch, apply)
UNSWITCH = Operation(UNSWITCH_NAME, Switch, take_back, apply)
