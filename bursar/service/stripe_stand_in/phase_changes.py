"""What a schedule does to its subscription: at each boundary, when it is rewritten, when it is over."""

from collections.abc import Iterator
from functools import partial

from bursar.service.demo.lives import JsonObject
from bursar.service.stripe_stand_in import discounts, renewals
from bursar.service.stripe_stand_in.clock import Due
from bursar.service.stripe_stand_in.forms import changed
from bursar.service.stripe_stand_in.phases import bounds
from bursar.service.stripe_stand_in.subscription_state import UPDATED, end, period, set_period
from bursar.service.stripe_stand_in.world import World

SCHEDULE_UPDATED = "subscription_schedule.updated"


def due(world: World) -> Iterator[Due]:
    """Boundaries: they come before what else happens at that instant."""
    for one in world.all("subscription_schedule", status="active"):
        yield Due(one["current_phase"]["end_date"], 0, partial(_pass_boundary, world, one))


def apply(world: World, subscription: JsonObject, phase: JsonObject) -> None:
    """Make the subscription what the phase says. A trial that the phase leaves out ends."""
    trial_end: int | None = phase["trial_end"]
    with world.updating(subscription, UPDATED):
        other_interval = _set_items(world, subscription, phase)
        asked = [_as_asked(one) for one in phase["discounts"] or ()]
        kept = discounts.redeem(world, asked, subscription["id"], subscription["customer"])
        subscription["discounts"] = discounts.standing(world, kept)
        subscription["metadata"] = changed(subscription["metadata"], phase["metadata"])
        _set_trial(world, subscription, trial_end, other_interval=other_interval)
    if period(subscription)[1] <= world.now:
        renewals.renew(world, subscription)


def follow_end(world: World, subscription: JsonObject, cancel_at: int | None) -> None:
    """The subscription shows when its schedule cancels it, and no longer when it does not."""
    if subscription["cancel_at"] == cancel_at:
        return
    with world.updating(subscription, UPDATED):
        subscription |= {"cancel_at": cancel_at, "cancel_at_period_end": False}
        subscription["canceled_at"] = world.now if cancel_at else None


def released(world: World, known: JsonObject, status: str = "released") -> None:
    """The subscription goes on by itself; the schedule remembers it."""
    subscription = world.get("subscription", known["subscription"])
    with world.updating(subscription, UPDATED):
        subscription["schedule"] = None
    known |= {"status": status, f"{status}_at": world.now, "current_phase": None}
    known |= {"released_subscription": subscription["id"], "subscription": None}
    world.emit(f"subscription_schedule.{status}", known)


def completed(world: World, known: JsonObject) -> None:
    """Its last phase is over and ends the subscription."""
    subscription = world.get("subscription", known["subscription"])
    known |= {"status": "completed", "completed_at": world.now, "current_phase": None}
    world.emit("subscription_schedule.completed", known)
    end(world, subscription, reason="cancellation_requested")


def _pass_boundary(world: World, schedule: JsonObject) -> None:
    ahead = [one for one in schedule["phases"] if one["end_date"] > world.now]
    if ahead:
        with world.updating(schedule, SCHEDULE_UPDATED):
            schedule["current_phase"] = bounds(ahead[0])
        apply(world, world.get("subscription", schedule["subscription"]), ahead[0])
    elif schedule["end_behavior"] == "cancel":
        completed(world, schedule)
    else:
        released(world, schedule, world.policy.last_phase_leaves)


def _set_items(world: World, subscription: JsonObject, phase: JsonObject) -> bool:
    """The phase's prices on the subscription's items; whether the first has another interval than before."""
    known = subscription["items"]["data"]
    before = known[0]["price"]["recurring"]
    starts_at, ends_at = period(subscription)
    items = []
    for index, wanted in enumerate(phase["items"]):
        made = known[index] if index < len(known) else renewals.new_item(world, subscription["id"], wanted["price"])
        items.append({**made, "price": world.get("price", wanted["price"]), "quantity": wanted["quantity"]})
    subscription["items"] = {**subscription["items"], "data": items}
    set_period(subscription, starts_at, ends_at)
    return bool(items[0]["price"]["recurring"] != before)


def _set_trial(world: World, subscription: JsonObject, trial_end: int | None, *, other_interval: bool) -> None:
    is_trialing = subscription["status"] == "trialing"
    if trial_end is not None and trial_end > world.now:
        if not is_trialing:
            renewals.begin_trial(world, subscription, trial_end)
        elif trial_end != subscription["trial_end"]:
            subscription |= {"trial_end": trial_end, "billing_cycle_anchor": trial_end}
            set_period(subscription, period(subscription)[0], trial_end)
    elif is_trialing and subscription["trial_end"] > world.now:
        subscription["trial_end"] = world.now
        renewals.begin_period(world, subscription)
    elif other_interval:
        renewals.begin_period(world, subscription)


def _as_asked(one: JsonObject) -> JsonObject:
    return {name: value for name, value in one.items() if value}
