"""Payment intents, charges, refunds and disputes."""

from collections.abc import Mapping

from bursar.service.demo.lives import JsonObject
from bursar.service.stripe_stand_in.forms import Params, changed, flag
from bursar.service.stripe_stand_in.lists import page
from bursar.service.stripe_stand_in.refusals import StripeRefusal, card_error, parameter_missing, unknown_here
from bursar.service.stripe_stand_in.shapes import blank
from bursar.service.stripe_stand_in.world import Card, World

CANCELABLE = ("requires_payment_method", "requires_confirmation", "requires_action", "requires_capture", "processing")


def create(world: World, params: Params) -> JsonObject:
    """`POST /v1/payment_intents`: with `confirm`, a failed payment is 402 with the intent in it."""
    for name in ("amount", "currency"):
        if name not in params:
            raise parameter_missing(name)
    method = params.get("payment_method")
    if method:
        world.get("payment_method", method, "payment_method")
    if "customer" in params:
        world.get("customer", params["customer"], "customer")
    confirmed = flag(params, "confirm")
    if confirmed and not method:
        raise _without_method()
    metadata = changed({}, params.get("metadata"))
    intent = intended(world, params.get("customer"), int(params["amount"]), method, metadata)
    if confirmed:
        _confirm(world, intent, on_session=not flag(params, "off_session"))
    return intent


def retrieve(world: World, _: Params, intent: str) -> JsonObject:
    return world.get("payment_intent", intent)


def listed(world: World, params: Params) -> JsonObject:
    narrowed = {"customer": params["customer"]} if "customer" in params else {}
    return page("/v1/payment_intents", world.all("payment_intent", **narrowed), params, "payment_intent")


def cancel(world: World, params: Params, intent: str) -> JsonObject:
    known = world.get("payment_intent", intent)
    if known["status"] not in CANCELABLE:
        message = f"You cannot cancel this PaymentIntent because it has a status of {known['status']}."
        raise StripeRefusal(message, code="payment_intent_unexpected_state", payment_intent=known)
    known |= {"status": "canceled", "canceled_at": world.now}
    known["cancellation_reason"] = params.get("cancellation_reason")
    world.emit("payment_intent.canceled", known)
    return known


def intended(
    world: World, customer_id: str | None, cents: int, method: str | None, metadata: Mapping[str, str]
) -> JsonObject:
    """A new intent, not yet confirmed."""
    key = world.ids.new("pi")
    made = blank("payment_intent", id=key, amount=cents, customer=customer_id, payment_method=method)
    made |= {
        "created": world.now,
        "metadata": dict(metadata),
        "client_secret": f"{key}_secret_{world.ids.new('x', 12)}",
    }
    made["status"] = "requires_confirmation" if method else "requires_payment_method"
    world.add("payment_intent", made)
    world.emit("payment_intent.created", made)
    return made


def attempt(world: World, intent: JsonObject, *, on_session: bool, description: str | None = None) -> str | None:
    """Charge the intent's card: None when it is paid, else Stripe's code for why not."""
    failure = _failure(world, intent["payment_method"], on_session=on_session)
    charge = _charge(world, intent, description, failure)
    intent["latest_charge"] = charge["id"]
    if failure is None:
        intent |= {"status": "succeeded", "amount_received": intent["amount"], "last_payment_error": None}
    else:
        error = card_error(failure, charge=charge["id"]).error
        intent |= {"status": "requires_payment_method", "last_payment_error": error}
    world.emit(f"payment_intent.{'payment_failed' if failure else 'succeeded'}", intent)
    return failure


def give_back(world: World, params: Params) -> JsonObject:
    """`POST /v1/refunds`: of a charge, or of a payment's newest one."""
    if "payment_intent" in params:
        charge_id = world.get("payment_intent", params["payment_intent"], "payment_intent")["latest_charge"]
    elif "charge" in params:
        charge_id = params["charge"]
    else:
        raise parameter_missing("charge")
    cents = int(params["amount"]) if "amount" in params else None
    return refund(world, charge_id, cents)


def refund(world: World, charge_id: str, cents: int | None = None) -> JsonObject:
    """Give a charge back, in part or whole."""
    charge = world.get("charge", charge_id, "charge")
    left = charge["amount"] - charge["amount_refunded"]
    given = left if cents is None else cents
    if not 0 < given <= left:
        raise StripeRefusal(f"Charge {charge_id} has {left} cents to refund.", code="charge_already_refunded")
    made = blank("refund", id=world.ids.new("re"), amount=given, charge=charge_id, created=world.now)
    made |= {name: charge[name] for name in ("customer", "payment_intent", "payment_method", "currency")}
    made["balance_transaction"] = world.ids.new("txn")
    world.add("refund", made)
    world.emit("refund.created", made)
    with world.updating(charge, "charge.refunded"):
        charge["amount_refunded"] += given
        charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    return made


def dispute(world: World, charge_id: str, reason: str = "fraudulent") -> JsonObject:
    """The bank takes the money back: it stays gone unless the dispute is won."""
    charge = world.get("charge", charge_id, "charge")
    made = blank("dispute", id=world.ids.new("dp"), charge=charge_id, created=world.now, reason=reason)
    made |= {"amount": charge["amount"], "payment_intent": charge["payment_intent"]}
    charge["disputed"] = True
    world.add("dispute", made)
    world.emit("charge.dispute.created", made)
    world.emit("charge.dispute.funds_withdrawn", made)
    return made


def close_dispute(world: World, dispute_id: str, *, won: bool) -> JsonObject:
    known = world.get("dispute", dispute_id)
    known["status"] = "won" if won else "lost"
    world.emit("charge.dispute.closed", known)
    if won:
        world.emit("charge.dispute.funds_reinstated", known)
    return known


def _confirm(world: World, intent: JsonObject, *, on_session: bool) -> None:
    if on_session and world.cards[intent["payment_method"]] is Card.CHALLENGE:
        raise unknown_here("a payment that its own request challenges: confirm it off session")
    if failure := attempt(world, intent, on_session=on_session):
        raise card_error(failure, payment_intent=intent, charge=intent["latest_charge"])


def _failure(world: World, method: str, *, on_session: bool) -> str | None:
    card = world.failing_payments or world.cards[method]
    declined = card is Card.DECLINED or (card is Card.FAILS_LATER and not on_session)
    if declined:
        return "card_declined"
    return "authentication_required" if card is Card.CHALLENGE and not on_session else None


def _charge(world: World, intent: JsonObject, description: str | None, failure: str | None) -> JsonObject:
    cents = intent["amount"]
    made = blank("charge", id=world.ids.new("ch"), created=world.now, amount=cents, amount_captured=cents)
    made |= {name: intent[name] for name in ("customer", "payment_method", "metadata", "currency")}
    made |= {"payment_intent": intent["id"], "description": description, "balance_transaction": world.ids.new("txn")}
    made["payment_method_details"]["card"]["amount_authorized"] = cents
    if failure:
        made |= {"status": "failed", "paid": False, "captured": False, "amount_captured": 0}
        made |= {"balance_transaction": None, "receipt_url": None, "failure_code": failure}
        made["failure_message"] = str(card_error(failure))
    world.add("charge", made)
    world.emit(f"charge.{'failed' if failure else 'succeeded'}", made)
    return made


def _without_method() -> StripeRefusal:
    message = "You cannot confirm this PaymentIntent because it's missing a payment method."
    return StripeRefusal(message, code="payment_intent_unexpected_state")
