"""Stripe's objects as the pinned API version shapes them, filled from skeletons with what a life needs."""

import json
from functools import cache
from importlib.resources import files
from random import Random
from string import ascii_letters, digits
from typing import TypeVar, cast

from bursar.service.demo.lives import JsonObject

Json = TypeVar("Json")
MONTHS = {"standard": 1, "commit": 6, "addon": 1}
AMOUNT_CENTS = {"standard": 2_500, "commit": 5_400, "addon": 1_200}


@cache
def _skeletons() -> dict[str, JsonObject]:
    text = files("bursar.service.demo").joinpath("skeletons.json").read_text(encoding="utf-8")
    skeletons: dict[str, JsonObject] = json.loads(text)
    return skeletons


def copied(value: Json) -> Json:
    """A copy of what JSON can hold, in a fraction of what `deepcopy` takes."""
    copy: object = value
    if isinstance(value, dict):
        copy = {name: copied(one) for name, one in value.items()}
    elif isinstance(value, list):
        copy = [copied(one) for one in value]
    return cast("Json", copy)


def skeleton(kind: str, /, **fields: object) -> JsonObject:
    """A fresh object of this kind; `?` and -1 stand where a caller must fill in."""
    return {**copied(_skeletons()[kind]), **fields}


class StripeIds:
    """Ids that look like Stripe's and derive from a seed."""

    def __init__(self, seed: str) -> None:
        self._random = Random(seed)  # noqa: S311 - made-up ids, the same for the same seed

    def new(self, prefix: str, length: int = 24) -> str:
        return f"{prefix}_{''.join(self._random.choices(ascii_letters + digits, k=length))}"

    def hexadecimal(self, length: int) -> str:
        return f"{self._random.getrandbits(4 * length):0{length}x}"


def product(ids: StripeIds, name: str, at: int) -> JsonObject:
    return skeleton("product", id=ids.new("prod", 14), name=name, created=at, updated=at)


def price(ids: StripeIds, plan: str, product_id: str, at: int) -> JsonObject:
    cents = AMOUNT_CENTS[plan]
    made = skeleton("price", id=ids.new("price"), product=product_id, created=at)
    made["recurring"]["interval_count"] = MONTHS[plan]
    return made | {"unit_amount": cents, "unit_amount_decimal": str(cents)}


def customer(ids: StripeIds, user_id: str | None, at: int) -> JsonObject:
    """A customer; only one of our users has metadata."""
    return skeleton(
        "customer",
        id=ids.new("cus", 14),
        created=at,
        email=f"{user_id or 'somebody'}@example.com",
        invoice_prefix=ids.hexadecimal(8).upper(),
        metadata={"userId": user_id} if user_id else {},
    )


def payment_method(ids: StripeIds, customer_id: str, at: int, last4: str) -> JsonObject:
    made = skeleton("payment_method", id=ids.new("pm"), customer=customer_id, created=at)
    made["card"]["last4"] = last4
    return made


def subscription(
    ids: StripeIds, customer_id: str, metadata: dict[str, str], price_of_item: JsonObject, period: tuple[int, int]
) -> JsonObject:
    """An active subscription with one item; `period` in Unix seconds."""
    starts_at, ends_at = period
    made = skeleton("subscription", id=ids.new("sub"), customer=customer_id, metadata=metadata)
    made |= {"created": starts_at, "start_date": starts_at, "billing_cycle_anchor": starts_at}
    made["billing_mode"]["updated_at"] = starts_at
    made["items"]["url"] = f"/v1/subscription_items?subscription={made['id']}"
    made["items"]["data"] = [
        skeleton(
            "subscription_item",
            id=ids.new("si", 14),
            created=starts_at,
            subscription=made["id"],
            price=price_of_item,
            current_period_start=starts_at,
            current_period_end=ends_at,
        )
    ]
    return made


def invoice(ids: StripeIds, payer: JsonObject, bought: JsonObject, at: int, reason: str) -> JsonObject:
    """A draft invoice for the subscription's current period."""
    item = bought["items"]["data"][0]
    cents = 0 if bought["status"] == "trialing" else item["price"]["unit_amount"]
    amounts = dict.fromkeys(
        ("amount_due", "amount_remaining", "subtotal", "subtotal_excluding_tax", "total", "total_excluding_tax"), cents
    )
    made = skeleton("invoice", id=ids.new("in"), customer=payer["id"], customer_email=payer["email"], **amounts)
    made |= {"created": at, "period_start": at, "period_end": at, "webhooks_delivered_at": at, "billing_reason": reason}
    made["lines"]["url"] = f"/v1/invoices/{made['id']}/lines"
    made["lines"]["data"] = [_line(ids, made["id"], bought["id"], item, cents)]
    made["parent"]["subscription_details"] = {"metadata": bought["metadata"], "subscription": bought["id"]}
    return made


def _line(ids: StripeIds, invoice_id: str, subscription_id: str, item: JsonObject, cents: int) -> JsonObject:
    made = skeleton("line_item", id=ids.new("il"), invoice=invoice_id, amount=cents, subtotal=cents)
    made["description"] = "1 × KiloClaw" if cents else "Free trial for 1 × KiloClaw"  # noqa: RUF001 - Stripe's own sign
    made["period"] = {"start": item["current_period_start"], "end": item["current_period_end"]}
    made["parent"]["subscription_item_details"] |= {"subscription": subscription_id, "subscription_item": item["id"]}
    made["pricing"]["price_details"] = {"price": item["price"]["id"], "product": item["price"]["product"]}
    made["pricing"]["unit_amount_decimal"] = str(cents)
    return made


def finalize(draft: JsonObject, number: str, at: int) -> None:
    url = f"https://pay.stripe.com/invoice/{draft['id']}/"
    draft |= {"status": "open", "number": number, "effective_at": at, "ending_balance": 0}
    draft |= {"hosted_invoice_url": url, "invoice_pdf": f"{url}pdf", "automatically_finalizes_at": None}
    draft["status_transitions"]["finalized_at"] = at


def charge(ids: StripeIds, customer_id: str, method_id: str, cents: int, at: int) -> JsonObject:
    """A charge that succeeded."""
    made = skeleton("charge", id=ids.new("ch"), customer=customer_id, payment_method=method_id, created=at)
    made |= {"amount": cents, "amount_captured": cents, "balance_transaction": ids.new("txn"), "description": None}
    made["receipt_url"] = f"https://pay.stripe.com/receipts/payment/{made['id']}"
    card = made["payment_method_details"]["card"]
    card["amount_authorized"] = card["overcapture"]["maximum_amount_capturable"] = cents
    return made


def decline(paid: JsonObject) -> None:
    """Turn a charge into one that the bank declined."""
    paid |= {"status": "failed", "paid": False, "captured": False, "balance_transaction": None, "receipt_url": None}
    paid |= {"failure_code": "card_declined", "failure_message": "Your card was declined."}
    paid["outcome"] |= {"network_status": "declined_by_network", "reason": "generic_decline", "type": "issuer_declined"}
    paid["payment_method_details"]["card"]["amount_authorized"] = None


def phase(price_of_phase: JsonObject, starts_at: int, ends_at: int) -> JsonObject:
    made = skeleton("phase", start_date=starts_at, end_date=ends_at)
    made["items"][0]["price"] = price_of_phase
    return made


def schedule(ids: StripeIds, managed: JsonObject, first_phase: JsonObject, at: int) -> JsonObject:
    """A schedule around a running subscription, with its current phase only."""
    made = skeleton("subscription_schedule", id=ids.new("sub_sched"), customer=managed["customer"], created=at)
    made |= {"subscription": managed["id"], "phases": [first_phase], "current_phase": _bounds(first_phase)}
    made["billing_mode"]["updated_at"] = managed["created"]
    return made


def _bounds(of_phase: JsonObject) -> JsonObject:
    return {"start_date": of_phase["start_date"], "end_date": of_phase["end_date"]}


def enter_phase(planned: JsonObject, index: int) -> None:
    planned["current_phase"] = _bounds(planned["phases"][index])


def event(ids: StripeIds, event_type: str, at: int, data: JsonObject, *, asked: bool) -> JsonObject:
    """The envelope; `asked` where an API request caused it rather than Stripe's own clock."""
    request = {"id": ids.new("req"), "idempotency_key": ids.hexadecimal(32)} if asked else None
    made = skeleton("event", id=ids.new("evt"), type=event_type, created=at, data=data)
    return made | ({"request": request} if request else {})
