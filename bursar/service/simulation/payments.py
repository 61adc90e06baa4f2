"""Which payments at Stripe are ours: top-ups, and invoices of subscriptions that are kept in credits."""

from collections.abc import Iterator

from bursar.billing.values import Value
from bursar.service.demo.lives import JsonObject
from bursar.service.stripe_stand_in.invoices import subscription_of
from bursar.service.stripe_stand_in.world import World

TOP_UP = "credit_topup"


class Payment(Value):
    """One that succeeded; amounts are in cents. `names` are all ids that it may be known by, `gone_cents` what was
    refunded or lost of it, `is_hosting` says that it paid an invoice of a subscription.
    """

    names: frozenset[str]
    user_id: str
    charge: JsonObject
    paid_cents: int
    gone_cents: int
    is_hosting: bool


def payments_of_ours(world: World) -> list[Payment]:
    """Every payment that the ledger has to know, oldest first."""
    invoices = {
        one["payment"]["payment_intent"]: world.get("invoice", one["invoice"]) for one in world.all("invoice_payment")
    }
    lost = {one["charge"] for one in world.all("dispute", status="lost")}
    found = (
        _payment(world, intent, invoices.get(intent["id"]), lost)
        for intent in world.all("payment_intent", status="succeeded")
    )
    return [one for one in found if one]


def automatic_top_ups(world: World) -> list[JsonObject]:
    """The payment intents that we asked for ourselves, oldest first, whatever became of them."""
    asked = {
        event["data"]["object"]["id"]
        for event in world.events
        if event["type"] == "payment_intent.created" and event["request"]["id"]
    }
    return [one for one in world.all("payment_intent") if one["id"] in asked and one["metadata"].get("type") == TOP_UP]


def invoices_in_credits(world: World) -> Iterator[tuple[JsonObject, JsonObject]]:
    """Every paid invoice of a subscription of ours that is kept in credits, with its subscription, oldest first."""
    for invoice in world.all("invoice", status="paid"):
        subscription = world.tables["subscription"].get(subscription_of(invoice) or "")
        if subscription and _is_in_credits(subscription):
            yield invoice, subscription


def _payment(world: World, intent: JsonObject, invoice: JsonObject | None, lost: set[str]) -> Payment | None:
    charge = world.get("charge", intent["latest_charge"])
    bearer = _bearer(world, intent, invoice)
    if bearer is None:
        return None
    return Payment(
        names=frozenset({intent["id"], charge["id"], *([invoice["id"]] if invoice else ())}),
        user_id=bearer["metadata"]["userId"],
        charge=charge,
        paid_cents=charge["amount"],
        gone_cents=charge["amount"] if charge["id"] in lost else charge["amount_refunded"],
        is_hosting=bearer["object"] == "subscription",
    )


def _bearer(world: World, intent: JsonObject, invoice: JsonObject | None) -> JsonObject | None:
    """Whose metadata say that the payment is ours: its own, its invoice's, or those of the invoice's subscription."""
    subscription = world.tables["subscription"].get(subscription_of(invoice) or "") if invoice else None
    if subscription:
        return subscription if _is_in_credits(subscription) else None
    return next((one for one in (intent, invoice) if one and one["metadata"].get("type") == TOP_UP), None)


def _is_in_credits(subscription: JsonObject) -> bool:
    metadata = subscription["metadata"]
    return bool(metadata.get("type") == "kiloclaw" and metadata.get("funding") == "credits")
