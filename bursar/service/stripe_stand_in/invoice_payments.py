"""Charging invoices: when they are finalized, at each retry, and what their subscription makes of it."""

from collections.abc import Iterator
from functools import partial

from bursar.service.demo.lives import JsonObject
from bursar.service.stripe_stand_in import payments
from bursar.service.stripe_stand_in.clock import Due
from bursar.service.stripe_stand_in.customers import default_card
from bursar.service.stripe_stand_in.shapes import blank
from bursar.service.stripe_stand_in.subscription_state import UPDATED, end
from bursar.service.stripe_stand_in.world import DAY_SECONDS, HOUR_SECONDS, AfterDunning, World

DESCRIPTIONS = {"subscription_create": "Subscription creation", "subscription_cycle": "Subscription update"}
NO_CARD = "card_declined"
OWING = ("incomplete", "past_due", "unpaid")


def finalized(world: World, draft: JsonObject) -> None:
    """No longer a draft; where nothing is due it is paid."""
    customer = world.get("customer", draft["customer"])
    number = f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04d}"
    customer["next_invoice_sequence"] += 1
    url = f"https://pay.stripe.com/invoice/{draft['id']}/"
    draft |= {"status": "open", "number": number, "effective_at": world.now, "ending_balance": 0}
    draft |= {"hosted_invoice_url": url, "invoice_pdf": f"{url}pdf", "automatically_finalizes_at": None}
    draft["status_transitions"]["finalized_at"] = world.now
    world.emit("invoice.finalized", draft)
    if draft["amount_due"] == 0:
        _paid(world, draft)
    elif draft["auto_advance"]:
        draft["next_payment_attempt"] = world.now + HOUR_SECONDS


def attempt(world: World, invoice: JsonObject, method: str | None, *, on_session: bool = False) -> str | None:
    """Try to charge it: None when it is paid, else Stripe's code for why not."""
    failure = NO_CARD if method is None else _charged(world, invoice, method, on_session=on_session)
    invoice |= {"attempted": True, "attempt_count": invoice["attempt_count"] + 1}
    if failure is None:
        _paid(world, invoice)
        return None
    invoice["next_payment_attempt"] = _next_attempt(world, invoice)
    world.emit("invoice.payment_failed", invoice)
    if failure == "authentication_required":
        world.emit("invoice.payment_action_required", invoice)
    _not_paid(world, invoice)
    return failure


def due(world: World) -> Iterator[Due]:
    """Drafts that become final, and attempts to charge."""
    for invoice in world.all("invoice"):
        if invoice["status"] == "draft" and invoice["automatically_finalizes_at"] is not None:
            yield Due(invoice["automatically_finalizes_at"], 3, partial(_advance, world, invoice))
        if invoice["status"] == "open" and invoice["next_payment_attempt"] is not None:
            yield Due(invoice["next_payment_attempt"], 4, partial(_retry, world, invoice))


def _advance(world: World, draft: JsonObject) -> None:
    finalized(world, draft)
    if draft["status"] == "open":
        _retry(world, draft)


def _retry(world: World, invoice: JsonObject) -> None:
    attempt(world, invoice, default_card(world, invoice["customer"]))


def _charged(world: World, invoice: JsonObject, method: str, *, on_session: bool) -> str | None:
    """One intent for all attempts at an invoice, as Stripe has it; it does not inherit the invoice's metadata."""
    known = world.all("invoice_payment", invoice=invoice["id"])
    if known:
        intent = world.get("payment_intent", known[0]["payment"]["payment_intent"])
        intent["payment_method"] = method
    else:
        intent = payments.intended(world, invoice["customer"], invoice["amount_due"], method, {})
        made = blank("invoice_payment", id=world.ids.new("inpay"), invoice=invoice["id"], created=world.now)
        made |= {"amount_requested": invoice["amount_due"], "payment": _payment(intent["id"])}
        known = [world.add("invoice_payment", made)]
    description = DESCRIPTIONS.get(invoice["billing_reason"], "Payment for Invoice")
    failure = payments.attempt(world, intent, on_session=on_session, description=description)
    if failure is None:
        known[0] |= {"status": "paid", "amount_paid": invoice["amount_due"]}
        known[0]["status_transitions"]["paid_at"] = world.now
        world.emit("invoice_payment.paid", known[0])
    return failure


def _payment(intent_id: str) -> JsonObject:
    return {"type": "payment_intent", "payment_intent": intent_id}


def _paid(world: World, invoice: JsonObject) -> None:
    invoice |= {"status": "paid", "amount_paid": invoice["amount_due"], "amount_remaining": 0, "attempted": True}
    invoice |= {"next_payment_attempt": None, "auto_advance": False}
    invoice["status_transitions"]["paid_at"] = world.now
    for event_type in ("invoice.payment_succeeded", "invoice.paid"):
        world.emit(event_type, invoice)
    subscription = _subscription(world, invoice)
    if subscription and subscription["latest_invoice"] == invoice["id"] and subscription["status"] in OWING:
        with world.updating(subscription, UPDATED):
            subscription["status"] = "active"


def _not_paid(world: World, invoice: JsonObject) -> None:
    """A renewal that is not paid makes its subscription past due; after the last retry the settings decide."""
    subscription = _subscription(world, invoice)
    if subscription is None or subscription["status"] not in ("active", "past_due"):
        return
    with world.updating(subscription, UPDATED):
        subscription["status"] = "past_due"
    if invoice["next_payment_attempt"] is None and invoice["auto_advance"]:
        invoice["auto_advance"] = False
        _end_dunning(world, subscription)


def _end_dunning(world: World, subscription: JsonObject) -> None:
    if world.policy.after_dunning is AfterDunning.CANCELED:
        end(world, subscription, reason="payment_failed")
    elif world.policy.after_dunning is AfterDunning.UNPAID:
        with world.updating(subscription, UPDATED):
            subscription["status"] = "unpaid"


def _next_attempt(world: World, invoice: JsonObject) -> int | None:
    """Counted from the first attempt, which is when it was finalized, or now."""
    retries = invoice["attempt_count"] - 1
    if not invoice["auto_advance"] or retries >= len(world.policy.retry_days):
        return None
    passed = world.policy.retry_days[retries - 1] if retries else 0
    days: int = world.policy.retry_days[retries] - passed
    return world.now + days * DAY_SECONDS


def _subscription(world: World, invoice: JsonObject) -> JsonObject | None:
    details = (invoice["parent"] or {}).get("subscription_details") or {}
    return world.tables["subscription"].get(details.get("subscription", ""))
