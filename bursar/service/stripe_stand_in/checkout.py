"""Checkout sessions: opened by us, paid by the customer, expired by either."""

from collections.abc import Iterator
from functools import partial

from bursar.service.demo.lives import JsonObject
from bursar.service.stripe_stand_in import customers, discounts, payments, renewals
from bursar.service.stripe_stand_in.clock import Due
from bursar.service.stripe_stand_in.forms import Params, changed, flag, number
from bursar.service.stripe_stand_in.lists import page
from bursar.service.stripe_stand_in.refusals import StripeRefusal, parameter_invalid, parameter_missing, unknown_here
from bursar.service.stripe_stand_in.shapes import blank
from bursar.service.stripe_stand_in.world import DAY_SECONDS, Card, World

MIN_TRIAL_SECONDS = 2 * DAY_SECONDS
EXPIRES_SECONDS = (1_800, DAY_SECONDS)
COPIED = ("success_url", "cancel_url", "client_reference_id", "customer_email", "locale")


class CardDeclined(Exception):
    """The customer sees that the payment failed; the session stays open."""


def create(world: World, params: Params) -> JsonObject:
    _check(world, params)
    key = world.ids.new("cs_test", 40)
    made = blank("checkout.session", id=key, created=world.now, mode=params.get("mode", "payment"))
    made |= {name: params.get(name) for name in COPIED} | {"customer": params.get("customer")}
    made |= {"metadata": changed({}, params.get("metadata")), "url": f"https://checkout.stripe.com/c/pay/{key}"}
    made["expires_at"] = number(params, "expires_at") or world.now + DAY_SECONDS
    made["allow_promotion_codes"] = flag(params, "allow_promotion_codes") or None
    made["payment_method_collection"] = params.get("payment_method_collection", "always")
    made["discounts"] = discounts.wanted(world, params.get("discounts"))
    cents = sum(_cents(world, one) for one in params.get("line_items", ()))
    made |= {"amount_subtotal": cents, "amount_total": cents}
    world.tables["checkout.params"][key] = {"id": key, **params}
    return world.add("checkout.session", made)


def retrieve(world: World, _: Params, session: str) -> JsonObject:
    return world.get("checkout.session", session)


def listed(world: World, params: Params) -> JsonObject:
    names = ("customer", "status", "subscription", "payment_intent")
    found = world.all("checkout.session", **{name: params[name] for name in names if name in params})
    return page("/v1/checkout/sessions", found, params, "checkout.session")


def expire(world: World, _: Params, session: str) -> JsonObject:
    known = world.get("checkout.session", session)
    if known["status"] != "open":
        message = f'Only Checkout Sessions with a status in ["open"] can be expired. It is {known["status"]}.'
        raise StripeRefusal(message)
    expired(world, known)
    return known


def expired(world: World, session: JsonObject) -> None:
    session |= {"status": "expired", "url": None}
    world.emit("checkout.session.expired", session)


def due(world: World) -> Iterator[Due]:
    for session in world.all("checkout.session", status="open"):
        yield Due(session["expires_at"], 5, partial(expired, world, session))


def complete(world: World, session_id: str, card: Card | None, promotion_code: str | None = None) -> JsonObject:
    """The customer gives a card and pays. Raises `CardDeclined`, or `StripeRefusal` for a session that is not open."""
    session = world.get("checkout.session", session_id)
    if session["status"] != "open":
        raise StripeRefusal(f"The customer sees that this session is {session['status']}.")
    if card is Card.DECLINED:
        raise CardDeclined(session_id)
    if card is None and session["payment_method_collection"] != "if_required":
        raise StripeRefusal("The customer sees that a card is required.")
    customer_id = session["customer"] or customers.create(world, {"email": session["customer_email"]})["id"]
    session["customer"] = customer_id
    if card:
        customers.give_card(world, customer_id, card)
    if session["mode"] == "subscription":
        _subscribe(world, session, promotion_code)
    elif session["mode"] == "payment":
        _pay_once(world, session)
    session |= {"status": "complete", "url": None}
    world.emit("checkout.session.completed", session)
    return session


def _subscribe(world: World, session: JsonObject, promotion_code: str | None) -> None:
    asked = world.tables["checkout.params"][session["id"]]
    data = asked.get("subscription_data", {})
    if promotion_code:
        session["discounts"] = [_typed_in(world, session, promotion_code)]
    subscription = renewals.start(
        world,
        session["customer"],
        [one["price"] for one in asked["line_items"]],
        metadata=changed({}, data.get("metadata")),
        trial_end=_trial_end(world, data),
        discounts_asked=session["discounts"],
        trial_settings=data.get("trial_settings"),
    )
    invoice = world.get("invoice", subscription["latest_invoice"])
    session |= {"subscription": subscription["id"], "invoice": invoice["id"], "amount_total": invoice["total"]}
    session["payment_status"] = "paid" if invoice["total"] else "no_payment_required"


def _pay_once(world: World, session: JsonObject) -> None:
    data = world.tables["checkout.params"][session["id"]].get("payment_intent_data", {})
    method = customers.default_card(world, session["customer"])
    metadata = changed({}, data.get("metadata"))
    intent = payments.intended(world, session["customer"], session["amount_total"], method, metadata)
    payments.attempt(world, intent, on_session=True)
    session |= {"payment_intent": intent["id"], "payment_status": "paid"}


def _check(world: World, params: Params) -> None:
    """What Stripe refuses before it opens a page."""
    mode = params.get("mode", "payment")
    if mode != "setup" and not params.get("line_items"):
        raise parameter_missing("line_items")
    if "customer" in params:
        world.get("customer", params["customer"], "customer")
        if "customer_email" in params:
            raise parameter_invalid("customer_email", "You may only specify one of: customer, customer_email.")
    for one in params.get("line_items", ()):
        if "price" in one:
            world.get("price", one["price"], "line_items[0][price]")
        elif mode == "subscription":
            raise unknown_here("a subscription without a price id")
    if flag(params, "allow_promotion_codes") and params.get("discounts"):
        raise parameter_invalid("discounts", "You may only specify one of: allow_promotion_codes, discounts.")
    trial_end = number(params.get("subscription_data", {}), "trial_end")
    if trial_end is not None and trial_end < world.now + MIN_TRIAL_SECONDS:
        message = "The `trial_end` date has to be at least 2 days in the future."
        raise parameter_invalid("subscription_data[trial_end]", message)
    expires_at = number(params, "expires_at")
    shortest, longest = EXPIRES_SECONDS
    if expires_at is not None and not world.now + shortest <= expires_at <= world.now + longest:
        message = "The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation."
        raise parameter_invalid("expires_at", message)


def _cents(world: World, line: JsonObject) -> int:
    quantity = int(line.get("quantity", 1))
    if "price" in line:
        cents: int = world.get("price", line["price"])["unit_amount"]
        return cents * quantity
    return int(line["price_data"]["unit_amount"]) * quantity


def _trial_end(world: World, data: JsonObject) -> int | None:
    days = number(data, "trial_period_days")
    return world.now + days * DAY_SECONDS if days else number(data, "trial_end")


def _typed_in(world: World, session: JsonObject, code: str) -> JsonObject:
    found = world.all("promotion_code", code=code, active=True)
    if not session["allow_promotion_codes"] or not found:
        raise StripeRefusal("The customer sees that this code is invalid.")
    return {"coupon": None, "discount": None, "promotion_code": found[0]["id"]}
