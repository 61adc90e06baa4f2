"""A schedule's phases: resolved to dates when they are written, applied to the subscription when they begin."""

from collections.abc import Iterator, Sequence
from typing import Any

from bursar.service.demo.lives import JsonObject
from bursar.service.stripe_stand_in import discounts
from bursar.service.stripe_stand_in.forms import changed, flag, number
from bursar.service.stripe_stand_in.periods import later
from bursar.service.stripe_stand_in.refusals import StripeRefusal, parameter_invalid, parameter_missing
from bursar.service.stripe_stand_in.shapes import blank
from bursar.service.stripe_stand_in.world import World

ENDS = ("end_date", "duration", "iterations")
MAX_PHASES = 10


def planned(world: World, schedule: JsonObject, sent: Any) -> list[JsonObject]:
    """The phases as the schedule will show them: those that are over, then what was sent.

    The first that is sent must be the running one, by its start; each next starts where the one before ends.
    """
    if not sent or len(sent) > MAX_PHASES:
        raise parameter_invalid("phases", f"A schedule has 1 to {MAX_PHASES} phases.")
    current = running(world, schedule["phases"])
    if "start_date" not in sent[0]:
        raise parameter_missing("phases[0][start_date]")
    past = [one for one in schedule["phases"] if one["end_date"] <= current["start_date"]]
    skipped = {str(one["start_date"]): one for one in past}
    wanted = [one for one in sent if str(one.get("start_date")) not in skipped]
    if not wanted or str(wanted[0].get("start_date")) != str(current["start_date"]):
        raise parameter_invalid("phases", "The phases must include the current phase, and its start cannot be changed.")
    made = list(_resolved(world, wanted, current["start_date"]))
    if made[0]["end_date"] <= world.now:
        raise parameter_invalid("phases[0][end_date]", "The current phase cannot end in the past.")
    return past + made


def running(world: World, known: Sequence[JsonObject]) -> JsonObject:
    """The phase of this instant."""
    for one in known:
        if one["start_date"] <= world.now < one["end_date"]:
            return one
    return known[0]


def bounds(phase: JsonObject) -> JsonObject:
    return {"start_date": phase["start_date"], "end_date": phase["end_date"]}


def items_of(subscription: JsonObject) -> list[JsonObject]:
    """What a subscription sells, as a phase shows it."""
    return [_item(one["price"]["id"], one["quantity"]) for one in subscription["items"]["data"]]


def _resolved(world: World, sent: Sequence[JsonObject], starts_at: int) -> Iterator[JsonObject]:
    for index, one in enumerate(sent):
        where = f"phases[{index}]"
        if index and "start_date" in one and int(one["start_date"]) != starts_at:
            raise parameter_invalid(f"{where}[start_date]", "Phases must be contiguous.")
        if not one.get("items"):
            raise parameter_missing(f"{where}[items]")
        phase = _phase(world, one, starts_at)
        phase["end_date"] = _end(world, one, starts_at, where, is_last=index == len(sent) - 1)
        _settle_trial(phase, where)
        yield phase
        starts_at = phase["end_date"]


def _phase(world: World, one: JsonObject, starts_at: int) -> JsonObject:
    items = []
    for item in one["items"]:
        world.get("price", item.get("price"), "phases[items][price]")
        items.append(_item(item["price"], int(item.get("quantity", 1))))
    made = blank("phase", start_date=starts_at, items=items, metadata=changed({}, one.get("metadata")))
    made |= {"discounts": discounts.wanted(world, one.get("discounts")), "trial_end": number(one, "trial_end")}
    made |= {"trial": flag(one, "trial"), "billing_cycle_anchor": one.get("billing_cycle_anchor")}
    made["proration_behavior"] = one.get("proration_behavior", "create_prorations")
    return made


def _settle_trial(phase: JsonObject, where: str) -> None:
    """A phase that is all trial shows when that ends; sent together, the two must agree."""
    starts_at, ends_at = phase["start_date"], phase["end_date"]
    if ends_at <= starts_at:
        raise parameter_invalid(f"{where}[end_date]", "A phase must end after it starts.")
    if phase["trial"] and phase["trial_end"] not in (None, ends_at):
        raise parameter_invalid(f"{where}[trial_end]", "With `trial`, `trial_end` must match the phase's end.")
    if phase["trial_end"] is not None and phase["trial_end"] > ends_at:
        raise parameter_invalid(f"{where}[trial_end]", "The trial must end within the phase.")
    if phase["trial"]:
        phase["trial_end"] = ends_at


def _end(world: World, one: JsonObject, starts_at: int, where: str, *, is_last: bool) -> int:
    given = [name for name in ENDS if name in one]
    if len(given) > 1:
        raise StripeRefusal(f"You may only specify one of these parameters: {', '.join(given)}.", param=where)
    if not given and not is_last:
        raise parameter_missing(f"{where}[end_date]")
    recurring = world.get("price", one["items"][0]["price"])["recurring"]
    if "end_date" in one:
        return world.now if one["end_date"] == "now" else int(one["end_date"])
    if "duration" in one:
        return later(starts_at, one["duration"]["interval"], int(one["duration"].get("interval_count", 1)))
    return later(starts_at, recurring["interval"], recurring["interval_count"] * int(one.get("iterations", 1)))


def _item(price_id: str, quantity: int) -> JsonObject:
    plain: JsonObject = {"billing_thresholds": None, "discounts": [], "metadata": {}, "tax_rates": []}
    return {**plain, "price": price_id, "quantity": quantity}
