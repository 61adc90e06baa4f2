"""A subscription's life by the clock: it starts, renews, leaves its trial, expires, ends."""

from collections.abc import Iterator, Sequence
from functools import partial

from bursar.service.demo.lives import JsonObject
from bursar.service.stripe_stand_in import discounts, invoice_payments, invoices
from bursar.service.stripe_stand_in.clock import Due
from bursar.service.stripe_stand_in.customers import default_card
from bursar.service.stripe_stand_in.periods import next_boundary
from bursar.service.stripe_stand_in.shapes import blank
from bursar.service.stripe_stand_in.subscription_state import UPDATED, end, period, set_period
from bursar.service.stripe_stand_in.world import DAY_SECONDS, HOUR_SECONDS, World

RENEWING = ("active", "past_due", "unpaid", "trialing")
TRIAL_NOTICE_SECONDS = 3 * DAY_SECONDS
INCOMPLETE_SECONDS = 23 * HOUR_SECONDS


def start(
    world: World,
    customer_id: str,
    price_ids: Sequence[str],
    *,
    metadata: dict[str, str],
    trial_end: int | None = None,
    discounts_asked: Sequence[JsonObject] = (),
    trial_settings: JsonObject | None = None,
) -> JsonObject:
    """A new subscription with its first invoice, paid while the customer is there: active, trialing or incomplete."""
    made = blank("subscription", id=world.ids.new("sub"), customer=customer_id, metadata=metadata)
    made |= {"created": world.now, "start_date": world.now, "billing_cycle_anchor": trial_end or world.now}
    made["billing_mode"]["updated_at"] = world.now
    made["items"]["url"] = f"/v1/subscription_items?subscription={made['id']}"
    made["items"]["data"] = [new_item(world, made["id"], price_id) for price_id in price_ids]
    made["discounts"] = discounts.redeem(world, discounts_asked, made["id"], customer_id)
    made["trial_settings"] = trial_settings or made["trial_settings"]
    world.add("subscription", made)
    if trial_end:
        made |= {"status": "trialing", "trial_start": world.now, "trial_end": trial_end}
        set_period(made, world.now, trial_end)
    else:
        made["status"] = "incomplete"
        set_period(made, world.now, next_boundary(world.now, made["items"]["data"][0]["price"]["recurring"], world.now))
    _first_payment(world, made)
    world.emit("customer.subscription.created", made)
    return made


def new_item(world: World, subscription_id: str, price_id: str, quantity: int = 1) -> JsonObject:
    price = world.get("price", price_id, "price")
    made = blank("subscription_item", id=world.ids.new("si", 14), created=world.now, subscription=subscription_id)
    return made | {"price": price, "quantity": quantity}


def renew(world: World, subscription: JsonObject) -> None:
    """The next period begins: a draft invoice, charged after its time as a draft."""
    if subscription["status"] == "trialing" and _pauses(world, subscription):
        return
    _, starts_at = period(subscription)
    recurring = subscription["items"]["data"][0]["price"]["recurring"]
    with world.updating(subscription, UPDATED):
        set_period(subscription, starts_at, next_boundary(subscription["billing_cycle_anchor"], recurring, starts_at))
        if subscription["status"] == "trialing":
            subscription["status"] = "active"
        subscription["discounts"] = discounts.standing(world, subscription["discounts"])
        invoice = bill(world, subscription, "subscription_cycle")
        subscription["latest_invoice"] = invoice["id"]
        if subscription["status"] != "unpaid":  # then its invoices stay drafts
            invoice |= {"auto_advance": True, "automatically_finalizes_at": world.now + world.policy.draft_seconds}
    world.emit("invoice.created", invoice)


def begin_trial(world: World, subscription: JsonObject, trial_end: int) -> None:
    """A trial that starts on a running subscription: nothing is charged until it ends. The caller tells the change."""
    subscription |= {"status": "trialing", "trial_start": world.now, "trial_end": trial_end}
    subscription["billing_cycle_anchor"] = trial_end
    set_period(subscription, world.now, trial_end)
    invoice = bill(world, subscription, "subscription_update")
    subscription["latest_invoice"] = invoice["id"]
    world.emit("invoice.created", invoice)
    invoice_payments.finalized(world, invoice)


def begin_period(world: World, subscription: JsonObject) -> None:
    """A new period from now on, the anchor with it; `renew` then bills it."""
    subscription["billing_cycle_anchor"] = world.now
    set_period(subscription, period(subscription)[0], world.now)


def bill(world: World, subscription: JsonObject, reason: str) -> JsonObject:
    """A draft for the period that runs; nothing during a trial."""
    invoice = invoices.draft(world, world.get("customer", subscription["customer"]), reason)
    details = {"metadata": subscription["metadata"], "subscription": subscription["id"]}
    invoice["parent"] = {"type": "subscription_details", "quote_details": None, "subscription_details": details}
    for item in subscription["items"]["data"]:
        invoices.add_line(invoice, _line(world, invoice["id"], subscription, item))
    return invoice


def due(world: World) -> Iterator[Due]:
    """What the clock does to subscriptions."""
    for one in world.all("subscription"):
        status = one["status"]
        if status in RENEWING and one["cancel_at"] is not None:
            yield Due(one["cancel_at"], 1, partial(end, world, one, reason="cancellation_requested"))
        if status in RENEWING:
            yield Due(period(one)[1], 2, partial(renew, world, one))
        if status == "trialing" and (one["id"], one["trial_end"]) not in world.announced_trials:
            noticed_at = max(one["trial_end"] - TRIAL_NOTICE_SECONDS, one["trial_start"])
            yield Due(noticed_at, 0, partial(_announce_trial_end, world, one))
        if status == "incomplete":
            yield Due(one["created"] + INCOMPLETE_SECONDS, 5, partial(_expire, world, one))


def resume(world: World, subscription: JsonObject) -> None:
    """A paused subscription goes on: a period begins now."""
    subscription["status"] = "active"
    begin_period(world, subscription)
    renew(world, subscription)
    world.emit("customer.subscription.resumed", subscription)


def _first_payment(world: World, made: JsonObject) -> None:
    invoice = bill(world, made, "subscription_create")
    world.emit("invoice.created", invoice)
    invoice_payments.finalized(world, invoice)
    if invoice["status"] == "open":
        invoice_payments.attempt(world, invoice, default_card(world, made["customer"]), on_session=True)
    made["latest_invoice"] = invoice["id"]
    if made["status"] == "incomplete" and invoice["status"] == "paid":
        made["status"] = "active"


def _line(world: World, invoice_id: str, subscription: JsonObject, item: JsonObject) -> JsonObject:
    price, quantity = item["price"], item["quantity"]
    each = 0 if subscription["status"] == "trialing" else price["unit_amount"]
    made = blank("line_item", id=world.ids.new("il"), invoice=invoice_id, amount=each * quantity, quantity=quantity)
    made |= {"subtotal": each * quantity, "description": f"{quantity} times {price['id']}"}
    made["quantity_decimal"] = str(quantity)
    made["period"] = {"start": item["current_period_start"], "end": item["current_period_end"]}
    made["parent"]["subscription_item_details"] |= {"subscription": subscription["id"], "subscription_item": item["id"]}
    made["pricing"]["price_details"] = {"price": price["id"], "product": price["product"]}
    made["pricing"]["unit_amount_decimal"] = str(each)
    standing = discounts.standing(world, subscription["discounts"])
    made["discount_amounts"] = discounts.cents_off(world, standing, each * quantity) if each else []
    made["discounts"] = [one["discount"] for one in made["discount_amounts"]]
    return made


def _pauses(world: World, subscription: JsonObject) -> bool:
    """A trial that ends without a card pauses or cancels the subscription where its settings say so."""
    behavior = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
    if default_card(world, subscription["customer"]) or behavior == "create_invoice":
        return False
    if behavior == "cancel":
        end(world, subscription, reason="cancellation_requested")
        return True
    subscription["status"] = "paused"
    world.emit("customer.subscription.paused", subscription)
    return True


def _announce_trial_end(world: World, subscription: JsonObject) -> None:
    world.announced_trials.add((subscription["id"], subscription["trial_end"]))
    world.emit("customer.subscription.trial_will_end", subscription)


def _expire(world: World, subscription: JsonObject) -> None:
    """Its first payment never came; its invoice is void."""
    invoice = world.get("invoice", subscription["latest_invoice"])
    if invoice["status"] == "open":
        invoice["status"] = "void"
        invoice["status_transitions"]["voided_at"] = world.now
        world.emit("invoice.voided", invoice)
    with world.updating(subscription, UPDATED):
        subscription |= {"status": "incomplete_expired", "ended_at": world.now}
