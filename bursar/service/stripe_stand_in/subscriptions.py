"""Subscriptions through the API: read, listed, changed, canceled."""

from typing import Any

from bursar.service.demo.lives import JsonObject
from bursar.service.stripe_stand_in import discounts
from bursar.service.stripe_stand_in.forms import Params, changed, number
from bursar.service.stripe_stand_in.lists import page
from bursar.service.stripe_stand_in.refusals import StripeRefusal, missing, parameter_invalid, unknown_here
from bursar.service.stripe_stand_in.renewals import begin_period, begin_trial, renew
from bursar.service.stripe_stand_in.subscription_state import ENDED, UPDATED, end, period, set_period
from bursar.service.stripe_stand_in.world import World

UNKNOWN = ("pause_collection", "billing_cycle_anchor", "add_invoice_items", "payment_behavior")
OF_ENDED = frozenset({"metadata", "cancellation_details", "expand"})
CANCELING = ("cancel_at_period_end", "cancel_at")


def retrieve(world: World, _: Params, subscription: str) -> JsonObject:
    return world.get("subscription", subscription)


def listed(world: World, params: Params) -> JsonObject:
    """Without `status` those that have not ended."""
    if "customer" in params:
        world.get("customer", params["customer"], "customer")
    asked = params.get("status")
    found = [
        one
        for one in world.all("subscription")
        if params.get("customer") in (None, one["customer"]) and _has_status(one["status"], asked)
    ]
    return page("/v1/subscriptions", found, params, "subscription")


def update(world: World, params: Params, subscription: str) -> JsonObject:
    known = world.get("subscription", subscription)
    _check_update(world, known, params)
    with world.updating(known, UPDATED):
        _update_plainly(world, known, params)
        if "cancel_at_period_end" in params or "cancel_at" in params:
            _update_cancellation(world, known, params)
        if params.get("items"):
            _swap_prices(world, known, params["items"])
        if "trial_end" in params:
            _update_trial(world, known, params["trial_end"])
    if params.get("trial_end") == "now" and known["status"] == "trialing":
        renew(world, known)
    return known


def cancel(world: World, _: Params, subscription: str) -> JsonObject:
    """At once. One that has ended is not found."""
    known = world.get("subscription", subscription)
    if known["status"] in ENDED:
        raise missing("subscription", subscription)
    end(world, known, reason="cancellation_requested")
    return known


def _check_update(world: World, known: JsonObject, params: Params) -> None:
    if known["status"] in ENDED and params.keys() - OF_ENDED:
        raise StripeRefusal("A canceled subscription can only update its cancellation_details and metadata.")
    if known["schedule"] and any(name in params for name in CANCELING):
        raise StripeRefusal(
            f"The subscription is managed by the subscription schedule `{known['schedule']}`, and updating any "
            "cancelation behavior directly is not allowed. Please update the schedule instead."
        )
    if known["schedule"] and params.get("items"):
        raise unknown_here("changing the items of a subscription that a schedule manages")
    for name in UNKNOWN:
        if name in params:
            raise unknown_here(f"{name} of a subscription")
    if all(params.get(name) for name in CANCELING):
        raise parameter_invalid("cancel_at", "`cancel_at` and `cancel_at_period_end` cannot both be set.")
    trial_end = params.get("trial_end")
    if trial_end not in (None, "now") and int(trial_end) <= world.now:
        raise parameter_invalid("trial_end", "Invalid timestamp: must be an integer Unix timestamp in the future.")


def _update_plainly(world: World, known: JsonObject, params: Params) -> None:
    known["metadata"] = changed(known["metadata"], params.get("metadata", {}))
    if "discounts" in params:
        asked = discounts.wanted(world, params["discounts"])
        known["discounts"] = discounts.redeem(world, asked, known["id"], known["customer"])
    if "default_payment_method" in params:
        known["default_payment_method"] = params["default_payment_method"] or None
    if "cancellation_details" in params:
        known["cancellation_details"] = {**known["cancellation_details"], **params["cancellation_details"]}


def _update_cancellation(world: World, known: JsonObject, params: Params) -> None:
    at_period_end = params.get("cancel_at_period_end") == "true"
    cancel_at = period(known)[1] if at_period_end else number(params, "cancel_at")
    known |= {"cancel_at_period_end": at_period_end, "cancel_at": cancel_at}
    known["canceled_at"] = world.now if cancel_at else None
    reason = "cancellation_requested" if cancel_at else None
    known["cancellation_details"] = {**known["cancellation_details"], "reason": reason}


def _swap_prices(world: World, known: JsonObject, asked: Any) -> None:
    """Another price on an item, without proration; another interval begins a new period at once."""
    items = {item["id"]: item for item in known["items"]["data"]}
    for one in asked:
        if one.get("id") not in items:
            raise unknown_here("adding an item to a subscription")
        item = items[one["id"]]
        price = world.get("price", one.get("price", item["price"]["id"]), "items[0][price]")
        other = price["recurring"] != item["price"]["recurring"]
        item |= {"price": price, "quantity": int(one.get("quantity", item["quantity"]))}
        if other and known["status"] != "trialing":
            begin_period(world, known)
    if period(known)[1] == world.now and known["status"] != "trialing":
        renew(world, known)


def _update_trial(world: World, known: JsonObject, trial_end: Any) -> None:
    if trial_end == "now":
        if known["status"] == "trialing":
            known |= {"trial_end": world.now, "billing_cycle_anchor": world.now}
            set_period(known, period(known)[0], world.now)
    elif known["status"] == "trialing":
        known |= {"trial_end": int(trial_end), "billing_cycle_anchor": int(trial_end)}
        set_period(known, period(known)[0], int(trial_end))
    else:
        begin_trial(world, known, int(trial_end))


def _has_status(status: str, wanted: str | None) -> bool:
    if wanted is None:
        return status not in ENDED
    return status in ENDED if wanted == "ended" else wanted in ("all", status)
