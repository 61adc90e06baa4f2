"""Subscription schedules through the API: made from a subscription, given phases, released, canceled."""

from bursar.service.demo.lives import JsonObject
from bursar.service.stripe_stand_in import discounts, phases
from bursar.service.stripe_stand_in.forms import Params, changed, flag
from bursar.service.stripe_stand_in.lists import page
from bursar.service.stripe_stand_in.phase_changes import SCHEDULE_UPDATED, apply, follow_end, released
from bursar.service.stripe_stand_in.refusals import StripeRefusal, unknown_here
from bursar.service.stripe_stand_in.shapes import blank
from bursar.service.stripe_stand_in.subscription_state import ENDED, UPDATED, end, period
from bursar.service.stripe_stand_in.world import World

LIVE = ("active", "not_started")


def create(world: World, params: Params) -> JsonObject:
    """`from_subscription` stands alone: a second call gives phases, metadata and the end's behavior."""
    if "from_subscription" not in params:
        raise unknown_here("a schedule that is not made from a subscription")
    if others := sorted(params.keys() - {"from_subscription", "expand"}):
        raise StripeRefusal(f"You cannot set `{others[0]}` if `from_subscription` is set.", param=others[0])
    subscription = world.get("subscription", params["from_subscription"], "from_subscription")
    if subscription["schedule"]:
        raise StripeRefusal("You cannot migrate a subscription that is already attached to a schedule.")
    if subscription["status"] in ENDED:
        raise StripeRefusal("You cannot migrate a subscription that is canceled.")
    return _around(world, subscription)


def retrieve(world: World, _: Params, schedule: str) -> JsonObject:
    return world.get("subscription_schedule", schedule)


def listed(world: World, params: Params) -> JsonObject:
    narrowed = {"customer": params["customer"]} if "customer" in params else {}
    found = world.all("subscription_schedule", **narrowed)
    return page("/v1/subscription_schedules", found, params, "subscription_schedule")


def update(world: World, params: Params, schedule: str) -> JsonObject:
    """What is omitted of a phase is dropped, of the running one too; phases that are over stay as they are."""
    known = world.get("subscription_schedule", schedule)
    if known["status"] not in LIVE:
        raise StripeRefusal(f"You cannot update a subscription schedule that is in the `{known['status']}` status.")
    subscription = world.get("subscription", known["subscription"])
    planned = phases.planned(world, known, params["phases"]) if "phases" in params else known["phases"]
    with world.updating(known, SCHEDULE_UPDATED):
        known["phases"] = planned
        known["end_behavior"] = params.get("end_behavior", known["end_behavior"])
        known["metadata"] = changed(known["metadata"], params.get("metadata", {}))
        known["current_phase"] = phases.bounds(phases.running(world, planned))
    if "phases" in params:
        apply(world, subscription, phases.running(world, planned))
    follow_end(world, subscription, planned[-1]["end_date"] if known["end_behavior"] == "cancel" else None)
    return known


def release(world: World, params: Params, schedule: str) -> JsonObject:
    known = world.get("subscription_schedule", schedule)
    _refuse_ended(known, "release")
    if known["end_behavior"] == "cancel" and not flag(params, "preserve_cancel_date"):
        follow_end(world, world.get("subscription", known["subscription"]), None)
    released(world, known)
    return known


def cancel(world: World, _: Params, schedule: str) -> JsonObject:
    """Ends its subscription with it."""
    known = world.get("subscription_schedule", schedule)
    _refuse_ended(known, "cancel")
    end(world, world.get("subscription", known["subscription"]), reason="cancellation_requested")
    return known


def _around(world: World, subscription: JsonObject) -> JsonObject:
    starts_at, ends_at = period(subscription)
    first = blank("phase", start_date=starts_at, end_date=ends_at, items=phases.items_of(subscription))
    first["discounts"] = discounts.as_sent(world, subscription["discounts"])
    if subscription["status"] == "trialing":
        first["trial_end"] = subscription["trial_end"]
    made = blank("subscription_schedule", id=world.ids.new("sub_sched"), customer=subscription["customer"])
    made |= {"created": world.now, "subscription": subscription["id"], "phases": [first]}
    made |= {"current_phase": phases.bounds(first), "metadata": {}}
    made["billing_mode"]["updated_at"] = subscription["created"]
    made["end_behavior"] = "cancel" if subscription["cancel_at"] else "release"
    world.add("subscription_schedule", made)
    world.emit("subscription_schedule.created", made)
    with world.updating(subscription, UPDATED):
        subscription["schedule"] = made["id"]
    return made


def _refuse_ended(known: JsonObject, verb: str) -> None:
    if known["status"] not in LIVE:
        raise StripeRefusal(
            f"You cannot {verb} a subscription schedule that is currently in the `{known['status']}` status. "
            "It must be in the `active` or `not_started` status."
        )
