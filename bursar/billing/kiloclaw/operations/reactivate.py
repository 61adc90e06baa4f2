"""Reactivating: a pending cancellation is taken back, and a commit plan has its automatic schedule again (KC-52)."""

from collections.abc import Generator
from typing import Any

from pydantic import BaseModel, ConfigDict

from bursar.billing.account import Account
from bursar.billing.catalogue import Catalogue
from bursar.billing.decision import Decision
from bursar.billing.errors import Refused
from bursar.billing.kiloclaw.following import status_of
from bursar.billing.kiloclaw.operations.schedule import ensure_schedule, recorded
from bursar.billing.kiloclaw.phases import KeptSchedule, ScheduleTerms, plan_sold
from bursar.billing.kiloclaw.row_changes import with_row
from bursar.billing.kiloclaw.rows import Subscription, hosting_of
from bursar.billing.kiloclaw.scheduling import terms_of
from bursar.billing.kiloclaw.stripe_events import reading
from bursar.billing.operations import Ended, Operation, OperationFacts, Plan, begin
from bursar.billing.stripe.calls import Call, Method
from bursar.billing.stripe.objects import StripeSubscription
from bursar.billing.values import replace

NAME = "kiloclaw-reactivate"
REACTIVATED = {"cancel_at_period_end": False}


class Reactivation(BaseModel):
    """A reactivation as it was decided: of which subscription, what a schedule is made from, the row's version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subscription_id: str
    terms: ScheduleTerms
    row_version: int


def reactivate(account: Account, catalogue: Catalogue, command_id: str) -> Decision:
    """Take a pending cancellation back; a pure-credit row's here only (KC-53). Parts: Hosting, Operations."""
    row = hosting_of(account).subscription
    if row is None or row.status == "canceled" or not row.cancel_at_period_end:
        raise _not_canceling()
    if row.stripe_subscription_id is None:
        return Decision(_reactivated_here(account, row), reason="reactivated by the user", result=REACTIVATED)
    asked = Reactivation(
        subscription_id=row.stripe_subscription_id, terms=terms_of(row, catalogue), row_version=row.version
    )
    return begin(account, NAME, asked, command_id)


def plan(asked: Reactivation) -> Plan:
    """Clear the flag, then make the schedule; where that fails the flag is set again."""
    subscription = yield Call("read-subscription", Method.RETRIEVE_SUBSCRIPTION, asked.subscription_id)
    if status_of(subscription) == "canceled":
        raise _not_canceling()
    going_on = yield from _without_cancellation(subscription)
    if status_of(going_on) != "active" or plan_sold(going_on, asked.terms.prices) != "commit":
        return {**REACTIVATED, "schedule": None}
    kept = yield from ensure_schedule(going_on, asked.terms)
    return {**REACTIVATED, "schedule": kept.model_dump(mode="json")}


def apply(account: Account, asked: Reactivation, ended: Ended, _: OperationFacts) -> Decision:
    """Clear the flag here and record the schedule; where the row moved meanwhile, Stripe is asked how it is."""
    row = hosting_of(account).subscription
    if row is None or row.stripe_subscription_id != asked.subscription_id or row.status == "canceled":
        return reading(account, "reactivation_overtaken")
    if ended.result is None:
        return Decision.nothing(account, "reactivation_failed")
    done = Decision(_reactivated_here(account, row), counts={"reactivated": 1})
    if ended.result["schedule"]:
        kept = KeptSchedule.model_validate(ended.result["schedule"])
        done = done.then(recorded(done.account, asked.subscription_id, kept))
    if row.version != asked.row_version:
        done = done.then(reading(done.account, "row_moved"))
    return replace(done, reason="reactivated by the user")


def _without_cancellation(subscription: StripeSubscription) -> Generator[Call, Any, StripeSubscription]:
    """Stripe has the flag, or an instant that somebody set; it takes one of the two a call."""
    if subscription.cancel_at_period_end:
        set_again = Call("set-flag", Method.UPDATE_SUBSCRIPTION, subscription.id, {"cancel_at_period_end": True})
        subscription = yield Call(
            "clear-flag", Method.UPDATE_SUBSCRIPTION, subscription.id, {"cancel_at_period_end": False}, set_again
        )
    if subscription.cancel_at:
        instant = {"cancel_at": int(subscription.cancel_at.timestamp())}
        set_again = Call("set-cancel-at", Method.UPDATE_SUBSCRIPTION, subscription.id, instant)
        subscription = yield Call(
            "clear-cancel-at", Method.UPDATE_SUBSCRIPTION, subscription.id, {"cancel_at": ""}, set_again
        )
    return subscription


def _reactivated_here(account: Account, row: Subscription) -> Account:
    """From credits a commitment has its transition by the row alone; at Stripe the schedule's is recorded (KC-52)."""
    if not row.cancel_at_period_end:
        return account
    going_on = replace(row, cancel_at_period_end=False)
    if row.is_pure_credit and row.plan == "commit":
        going_on = replace(going_on, scheduled_plan="standard", scheduled_by="auto")
    return with_row(account, going_on)


def _not_canceling() -> Refused:
    return Refused("not_canceling", "No cancellation is pending.")


REACTIVATE = Operation(NAME, Reactivation, plan, apply)
