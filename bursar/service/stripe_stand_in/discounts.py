"""Coupons, promotion codes and the discounts that they become."""

from collections.abc import Iterable, Sequence
from typing import Any

from bursar.service.demo.lives import JsonObject
from bursar.service.stripe_stand_in.periods import later
from bursar.service.stripe_stand_in.refusals import StripeRefusal
from bursar.service.stripe_stand_in.shapes import blank
from bursar.service.stripe_stand_in.world import World


def add_coupon(world: World, coupon_id: str, percent_off: float, months: int | None) -> JsonObject:
    """A coupon for so many months; None lasts for ever."""
    duration = "repeating" if months else "forever"
    made = blank("coupon", id=coupon_id, created=world.now, percent_off=percent_off, duration=duration)
    made["duration_in_months"] = months
    return world.add("coupon", made)


def add_promotion_code(world: World, code: str, coupon_id: str) -> JsonObject:
    """A code that customers may type in at checkout."""
    world.get("coupon", coupon_id, "coupon")
    made = blank("promotion_code", id=world.ids.new("promo"), code=code, created=world.now)
    made["promotion"] = {"coupon": coupon_id, "type": "coupon"}
    return world.add("promotion_code", made)


def wanted(world: World, sent: Any) -> list[JsonObject]:
    """`discounts[]` of a request, each as coupon, discount and promotion code; known ones only."""
    return [_resolved(world, one) for one in sent or ()]


def redeem(world: World, asked: Iterable[JsonObject], subscription_id: str, customer_id: str) -> list[str]:
    """The ids of the discounts: those that are named stay, the others start now."""
    return [one.get("discount") or _start(world, one, subscription_id, customer_id) for one in asked]


def standing(world: World, discount_ids: Sequence[str]) -> list[str]:
    """Those that have not ended."""
    kept = (world.get("discount", key) for key in discount_ids)
    return [one["id"] for one in kept if one["end"] is None or one["end"] > world.now]


def as_sent(world: World, discount_ids: Sequence[str]) -> list[JsonObject]:
    """A subscription's discounts as a schedule's phase shows them."""
    kept = (world.get("discount", key) for key in discount_ids)
    return [{"coupon": None, "discount": one["id"], "promotion_code": None} for one in kept]


def cents_off(world: World, discount_ids: Sequence[str], cents: int) -> list[JsonObject]:
    """What each takes off an amount, one after the other."""
    taken: list[JsonObject] = []
    for key in discount_ids:
        coupon = world.get("coupon", world.get("discount", key)["source"]["coupon"])
        left = cents - sum(one["amount"] for one in taken)
        taken.append({"amount": round(left * coupon["percent_off"] / 100), "discount": key})
    return taken


def _resolved(world: World, one: JsonObject) -> JsonObject:
    shown = {"coupon": None, "discount": None, "promotion_code": None, **one}
    for kind, value in shown.items():
        if value:
            world.get(kind, value, "discounts")
    if sum(value is not None for value in shown.values()) != 1:
        raise StripeRefusal("Name one of coupon, discount, promotion_code.", param="discounts")
    return shown


def _start(world: World, one: JsonObject, subscription_id: str, customer_id: str) -> str:
    code = one.get("promotion_code")
    coupon_id = one.get("coupon") or world.get("promotion_code", code)["promotion"]["coupon"]
    coupon = world.get("coupon", coupon_id)
    months = coupon["duration_in_months"]
    made = blank("discount", id=world.ids.new("di"), start=world.now, customer=customer_id, promotion_code=code)
    made |= {"subscription": subscription_id, "source": {"coupon": coupon_id, "type": "coupon"}}
    made["end"] = later(world.now, "month", months) if months else None
    coupon["times_redeemed"] += 1
    world.add("discount", made)
    key: str = made["id"]
    return key
