"""What every part of the stand-in knows of a subscription: its period, its schedule, its end."""

from bursar.service.demo.lives import JsonObject
from bursar.service.stripe_stand_in.world import World

UPDATED = "customer.subscription.updated"
ENDED = frozenset({"canceled", "incomplete_expired"})


def period(subscription: JsonObject) -> tuple[int, int]:
    """Start and end of the running period, which stand on the items."""
    item = subscription["items"]["data"][0]
    return item["current_period_start"], item["current_period_end"]


def set_period(subscription: JsonObject, starts_at: int, ends_at: int) -> None:
    for item in subscription["items"]["data"]:
        item |= {"current_period_start": starts_at, "current_period_end": ends_at}


def end(world: World, subscription: JsonObject, *, reason: str, status: str = "canceled") -> None:
    """It is over: nothing of it is charged any more, and its schedule ends with it."""
    details = {**subscription["cancellation_details"], "reason": reason}
    subscription |= {"status": status, "ended_at": world.now, "cancellation_details": details}
    subscription["canceled_at"] = subscription["canceled_at"] or world.now
    for invoice in world.all("invoice"):
        of = ((invoice["parent"] or {}).get("subscription_details") or {}).get("subscription")
        if of == subscription["id"] and invoice["status"] in ("draft", "open"):
            invoice |= {"auto_advance": False, "automatically_finalizes_at": None, "next_payment_attempt": None}
    if schedule := world.tables["subscription_schedule"].get(subscription["schedule"] or ""):
        _end_schedule(world, schedule, subscription)
    world.emit("customer.subscription.deleted", subscription)


def _end_schedule(world: World, schedule: JsonObject, subscription: JsonObject) -> None:
    subscription["schedule"] = None
    if schedule["status"] == "active":
        schedule |= {"status": "canceled", "canceled_at": world.now, "current_phase": None}
        world.emit("subscription_schedule.canceled", schedule)
