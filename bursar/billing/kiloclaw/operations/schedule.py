"""The schedule of a subscription: made, adopted, completed, followed, released (KC-40, KC-41, KC-45, KC-46)."""

from collections.abc import Generator, Sequence
from typing import Any

from bursar.billing.account import Account
from bursar.billing.catalogue import PaidPlan
from bursar.billing.decision import Decision
from bursar.billing.errors import CallRefused, Refused, Retryable
from bursar.billing.kiloclaw.phases import (
    Json,
    KeptSchedule,
    ScheduleTerms,
    commit_course,
    in_last_phase,
    plan_of,
    plan_sold,
    schedule_metadata,
    shown,
    stays_commit,
    whose,
    without_schedule,
)
from bursar.billing.kiloclaw.row_changes import with_row
from bursar.billing.kiloclaw.rows import ScheduledBy, Subscription, hosting_of
from bursar.billing.kiloclaw.scheduling import KEEP_SCHEDULE, KeepAsked, with_kept
from bursar.billing.kiloclaw.stripe_events import reading
from bursar.billing.operations import Ended, Operation, OperationFacts, Plan
from bursar.billing.stripe.calls import Call, Method
from bursar.billing.stripe.objects import StripeSubscription
from bursar.billing.stripe.schedules import SchedulePhase, StripeSchedule
from bursar.billing.values import replace

Scheduling = Generator[Call, Any, StripeSchedule]


def ensure_schedule(subscription: StripeSubscription, terms: ScheduleTerms) -> Generator[Call, Any, KeptSchedule]:
    """The automatic schedule of a commit subscription: ours is adopted, a half-made one completed, else one is made.

    Raises `Refused("foreign_schedule")` for another's (KC-41). A later failure releases what was made (KC-46).
    """
    schedule = yield from standing_or_new(subscription)
    if whose(schedule, subscription) != "ours":
        schedule = yield from written(schedule, commit_course(running(schedule), terms), "auto", "standard", terms)
    return shown(schedule, terms.prices)


def standing_or_new(subscription: StripeSubscription) -> Scheduling:
    """What stands at Stripe, read first (KC-41); made where nothing does. `Refused` for another's."""
    standing = yield from standing_schedule(subscription)
    if standing:
        return standing
    undo = Call("release-schedule", Method.RELEASE_SCHEDULE)
    try:
        made: StripeSchedule = yield Call(
            "create-schedule", Method.CREATE_SCHEDULE, params={"from_subscription": subscription.id}, undo=undo
        )
    except CallRefused as refusal:
        return (yield from _made_by_another(subscription, refusal))
    return made


def standing_schedule(
    subscription: StripeSubscription, call_name: str = "schedule"
) -> Generator[Call, Any, StripeSchedule | None]:
    """The schedule that manages the subscription; `Refused` for one that is not ours (KC-41)."""
    if subscription.schedule is None:
        return None
    schedule: StripeSchedule = yield Call(call_name, Method.RETRIEVE_SCHEDULE, target=subscription.schedule)
    if schedule.has_ended:
        return None
    if whose(schedule, subscription) == "foreign":
        raise _foreign()
    return schedule


def written(
    schedule: StripeSchedule, phases: Sequence[Json], origin: ScheduledBy, target: PaidPlan, terms: ScheduleTerms
) -> Scheduling:
    """Give the schedule those phases and our mark, in one call: what has the mark has its phases."""
    params = {
        "phases": list(phases),
        "metadata": schedule_metadata(terms, origin, target),
        "end_behavior": "release",
        "proration_behavior": "none",
    }
    updated: StripeSchedule = yield Call("update-schedule", Method.UPDATE_SCHEDULE, target=schedule.id, params=params)
    return updated


def released(schedule_id: str) -> Generator[Call, Any, None]:
    """Release it; one that has ended already counts as released, any other refusal is raised (KC-46)."""
    try:
        yield Call("release-schedule", Method.RELEASE_SCHEDULE, target=schedule_id)
    except CallRefused as refusal:
        seen = yield Call("schedule-after-refusal", Method.RETRIEVE_SCHEDULE, target=schedule_id)
        if not seen.has_ended:
            raise refusal from None


def running(schedule: StripeSchedule) -> SchedulePhase:
    """The phase that runs; a schedule of a live subscription has one."""
    if not schedule.remaining:
        raise _foreign()
    return schedule.remaining[0]


def keep_schedule(asked: KeepAsked) -> Plan:
    """Bring about what shall be, and say what the row is to record. Another's schedule is only looked at."""
    subscription: StripeSubscription = yield Call(
        "subscription", Method.RETRIEVE_SUBSCRIPTION, target=asked.subscription_id
    )
    schedule: StripeSchedule | None = None
    if subscription.schedule:
        schedule = yield Call("schedule", Method.RETRIEVE_SCHEDULE, target=subscription.schedule)
    kept = yield from _brought_in_order(subscription, schedule, asked.terms)
    live = plan_sold(subscription, asked.terms.prices)
    return kept.model_copy(update={"plan": live}).model_dump(mode="json")


def apply_kept(account: Account, asked: KeepAsked, ended: Ended, _: OperationFacts) -> Decision:
    """Record it, unless the row is bound to another subscription by now."""
    if ended.result is None:
        return Decision.nothing(account, "schedule_not_kept")
    return recorded(account, asked.subscription_id, KeptSchedule.model_validate(ended.result))


def recorded(account: Account, subscription_id: str, kept: KeptSchedule) -> Decision:
    """The row with that schedule. A row whose plan is not the one that was seen running only learns the schedule's id,
    and Stripe is read for the plan: where that changes, the schedule is looked after again.
    """
    row = hosting_of(account).subscription
    if row is None or row.stripe_subscription_id != subscription_id or row.status == "canceled":
        return Decision.nothing(account, "stale")
    if kept.plan is not None and kept.plan != row.plan:
        return _recorded_later(account, row, kept)
    changed = with_kept(row, kept)
    if changed == row:
        return Decision.nothing(account, "agreed")
    return Decision(with_row(account, changed), reason=_reason(kept), counts={"schedule_recorded": 1})


def _recorded_later(account: Account, row: Subscription, kept: KeptSchedule) -> Decision:
    if row.stripe_schedule_id == kept.schedule_id:
        return reading(account, "plan_differs")
    learnt = with_row(account, with_kept(row, KeptSchedule(schedule_id=kept.schedule_id)))
    return replace(reading(learnt, "plan_differs"), reason=_reason(kept))


def _reason(kept: KeptSchedule) -> str:
    return f"schedule {kept.schedule_id}" if kept.schedule_id else "no schedule"


def _made_by_another(subscription: StripeSubscription, refusal: CallRefused) -> Scheduling:
    """Stripe has one schedule a subscription: where we lost the race, both sides adopt the winner's (KC-41)."""
    again = yield Call("subscription-after-refusal", Method.RETRIEVE_SUBSCRIPTION, target=subscription.id)
    theirs = yield from standing_schedule(again, "schedule-of-another")
    if theirs is None:
        raise refusal
    return theirs


def _brought_in_order(
    subscription: StripeSubscription, schedule: StripeSchedule | None, terms: ScheduleTerms
) -> Generator[Call, Any, KeptSchedule]:
    if schedule is None or schedule.has_ended:
        if not stays_commit(subscription, terms.prices):
            return without_schedule(subscription, terms)
        return (yield from ensure_schedule(subscription.model_copy(update={"schedule": None}), terms))
    standing = whose(schedule, subscription)
    if standing == "ours":
        return (yield from _ours_in_order(subscription, schedule, terms))
    if standing == "half_made" and stays_commit(subscription, terms.prices):
        completed = yield from written(schedule, commit_course(running(schedule), terms), "auto", "standard", terms)
        return shown(completed, terms.prices)
    return shown(schedule, terms.prices).model_copy(update={"schedule_id": None})


def _ours_in_order(
    subscription: StripeSubscription, schedule: StripeSchedule, terms: ScheduleTerms
) -> Generator[Call, Any, KeptSchedule]:
    """Released in its last phase (KC-45); written anew where more months are paid than it knows of (KC-47).

    At a boundary Stripe changes the price first and the schedule's phase a moment later: looked at again then.
    """
    live = plan_sold(subscription, terms.prices)
    if live and plan_of(running(schedule), terms.prices) not in (None, live):
        raise Retryable("the schedule is between two phases")
    if in_last_phase(schedule):
        yield from released(schedule.id)
        return without_schedule(subscription, terms)
    kept = shown(schedule, terms.prices)
    paid, ends_at = terms.commit_ends_at, kept.commit_ends_at
    if kept.plan == "commit" and paid and ends_at and paid > ends_at:
        by, target = kept.scheduled_by or "auto", kept.scheduled_plan or "standard"
        course = commit_course(running(schedule), terms, ends_at)
        again = yield from written(schedule, course, by, target, terms)
        return shown(again, terms.prices)
    return kept


def _foreign() -> Refused:
    return Refused("foreign_schedule", "Another schedule manages this subscription.", status=409)


KEEPING = Operation(KEEP_SCHEDULE, KeepAsked, keep_schedule, apply_kept)
