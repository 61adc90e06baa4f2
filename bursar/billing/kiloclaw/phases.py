"""The phases of a KiloClaw schedule (KC-40…KC-47): which there shall be, and what those there are mean for the row."""

from datetime import datetime
from itertools import takewhile
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from bursar.billing.calendar import add_months
from bursar.billing.catalogue import PaidPlan, Prices
from bursar.billing.kiloclaw.following import status_of
from bursar.billing.kiloclaw.rows import ScheduledBy
from bursar.billing.kiloclaw.sent_phases import lasting, sent_back
from bursar.billing.stripe.objects import StripeSubscription
from bursar.billing.stripe.schedules import SchedulePhase, StripeSchedule

COMMIT_MONTHS = 6
Whose = Literal["ours", "half_made", "foreign"]
Json = dict[str, Any]
_COMMIT_DURATION = {"interval": "month", "interval_count": COMMIT_MONTHS}
_STANDARD_DURATION = {"interval": "month", "interval_count": 1}


class ScheduleTerms(BaseModel):
    """What a schedule is made from besides its subscription. `commit_ends_at` is how far the row's commitment goes:
    beyond the running phase where further months are paid already (KC-47).
    """

    model_config = ConfigDict(frozen=True)

    user_id: str
    prices: Prices
    commit_ends_at: datetime | None = None


class KeptSchedule(BaseModel):
    """What the row records of the schedule. `plan` is that of the phase that runs; None where its price is unknown."""

    model_config = ConfigDict(frozen=True)

    schedule_id: str | None = None
    plan: PaidPlan | None = None
    commit_ends_at: datetime | None = None
    scheduled_plan: PaidPlan | None = None
    scheduled_by: ScheduledBy | None = None


def commit_course(running: SchedulePhase, terms: ScheduleTerms, known_end: datetime | None = None) -> list[Json]:
    """From a commit phase on: it, or with delayed billing the prelaunch and then it; months already paid; standard.

    `known_end` is the commitment's end so far: a trial that it does not outlast is itself of months that are paid, and
    grows by further ones.
    """
    paid_until = terms.commit_ends_at
    is_paid = any(end and end <= running.end_date for end in (known_end, paid_until))
    head, ends_at = [_running_commit(running)], running.end_date
    if running.is_trial and not is_paid:
        head = [sent_back(running), _commit(running, terms, {"duration": _COMMIT_DURATION})]
        ends_at = add_months(running.end_date, COMMIT_MONTHS)
    elif running.is_trial and paid_until and paid_until > ends_at:
        head, ends_at = [_free_until(running, paid_until)], paid_until
    if paid_until and paid_until > ends_at:
        head.append(_commit(running, terms, {"trial": True, "end_date": int(paid_until.timestamp())}))
    return [*head, _standard(running, terms)]


def switch_to_commit(running: SchedulePhase, period_end: datetime, terms: ScheduleTerms) -> list[Json]:
    """Standard until the period's end, commit for six months, then standard again (KC-42)."""
    current = sent_back(running) | {"end_date": int(period_end.timestamp())}
    return [current, _commit(running, terms, {"duration": _COMMIT_DURATION}), _standard(running, terms)]


def schedule_metadata(terms: ScheduleTerms, origin: ScheduledBy, target: PaidPlan) -> dict[str, str]:
    """By which we know our own schedules; written together with the phases."""
    return {"type": "kiloclaw", "userId": terms.user_id, "origin": origin, "plan": target}


def whose(schedule: StripeSchedule, subscription: StripeSubscription) -> Whose:
    """Ours; made from the subscription and not yet written; or another's (KC-41)."""
    if schedule.metadata.get("type") == "kiloclaw" and schedule.metadata.get("origin") in ("auto", "user"):
        return "ours"
    mirrors = (
        len(schedule.phases) == 1 and schedule.remaining == schedule.phases and _sells_the_same(schedule, subscription)
    )
    return "half_made" if mirrors and not schedule.metadata else "foreign"


def in_last_phase(schedule: StripeSchedule) -> bool:
    """Whether nothing is to come any more: then it is released (KC-45)."""
    return len(schedule.remaining) <= 1


def shown(schedule: StripeSchedule, prices: Prices) -> KeptSchedule:
    """What a schedule says: the commit's end is that of its resolved phase, months already paid included (KC-40)."""
    plans = [(plan_of(phase, prices), phase) for phase in schedule.remaining]
    plan = plans[0][0] if plans else None
    following = next((other for other, _ in plans if other not in (None, plan)), None)
    commit = [phase for _, phase in takewhile(lambda one: one[0] == "commit", plans)]
    return KeptSchedule(
        schedule_id=schedule.id,
        plan=plan,
        commit_ends_at=commit[-1].end_date if commit else None,
        scheduled_plan=following,
        scheduled_by=_by(schedule, following) if following else None,
    )


def plan_of(phase: SchedulePhase, prices: Prices) -> PaidPlan | None:
    """What a phase sells."""
    return next((plan for plan in (prices.plan_of(item.price) for item in phase.items) if plan), None)


def plan_sold(subscription: StripeSubscription, prices: Prices) -> PaidPlan | None:
    """The plan by the live price (KC-34); None where no price is known."""
    return next((plan for plan in (prices.plan_of(item.price) for item in subscription.items) if plan), None)


def stays_commit(subscription: StripeSubscription, prices: Prices) -> bool:
    """Whether it is a commit plan that runs and stays: such a one has a schedule (KC-40)."""
    pending = subscription.cancel_at_period_end or subscription.cancel_at is not None
    return status_of(subscription) == "active" and not pending and plan_sold(subscription, prices) == "commit"


def without_schedule(subscription: StripeSubscription, terms: ScheduleTerms) -> KeptSchedule:
    """No schedule; a commitment then ends with its period, or as far as it is paid."""
    plan = plan_sold(subscription, terms.prices)
    period_end = subscription.items[0].current_period_end
    ends_at = max(period_end, terms.commit_ends_at or period_end) if plan == "commit" else None
    return KeptSchedule(plan=plan, commit_ends_at=ends_at)


def _by(schedule: StripeSchedule, following: PaidPlan) -> ScheduledBy:
    """A user's switch is that into the plan which was asked for; what comes after it comes by itself (KC-45)."""
    asked_for = schedule.metadata.get("origin") == "user" and schedule.metadata.get("plan") == following
    return "user" if asked_for else "auto"


def _running_commit(running: SchedulePhase) -> Json:
    """Sent back whole; six calendar months from its start where that is what it is."""
    whole = sent_back(running)
    if running.end_date != add_months(running.start_date, COMMIT_MONTHS) or running.is_trial:
        return whole
    return {name: value for name, value in whole.items() if name != "end_date"} | {"duration": _COMMIT_DURATION}


def _free_until(running: SchedulePhase, ends_at: datetime) -> Json:
    """The running trial sent back whole, and as long as that."""
    whole = {name: value for name, value in sent_back(running).items() if name != "trial_end"}
    return whole | {"trial": True, "end_date": int(ends_at.timestamp())}


def _commit(running: SchedulePhase, terms: ScheduleTerms, how_long: Json) -> Json:
    """No promotion reaches it: an empty string keeps even the customer's own out (KC-40)."""
    return _phase(running, terms.prices.sold("commit"), how_long | {"discounts": ""})


def _standard(running: SchedulePhase, terms: ScheduleTerms) -> Json:
    return _phase(running, terms.prices.sold("standard"), {"duration": _STANDARD_DURATION})


def _phase(running: SchedulePhase, price: str, rest: Json) -> Json:
    sold = [{"price": price, "quantity": 1}]
    return {**lasting(running), "items": sold, "proration_behavior": "none", **rest}


def _sells_the_same(schedule: StripeSchedule, subscription: StripeSubscription) -> bool:
    sold = sorted((item.price, item.quantity) for item in schedule.phases[0].items)
    return sold == sorted((item.price, item.quantity) for item in subscription.items)
