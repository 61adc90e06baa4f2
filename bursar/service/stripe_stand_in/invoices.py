"""Invoices through the API: one-off ones with their items, finalized, paid, voided, deleted."""

from bursar.service.demo.lives import JsonObject
from bursar.service.stripe_stand_in import customers, invoice_payments
from bursar.service.stripe_stand_in.forms import Params, changed, flag
from bursar.service.stripe_stand_in.lists import page
from bursar.service.stripe_stand_in.refusals import StripeRefusal, card_error, parameter_missing, unknown_here
from bursar.service.stripe_stand_in.shapes import blank
from bursar.service.stripe_stand_in.world import HOUR_SECONDS, World

TOTALS = ("amount_due", "amount_remaining", "subtotal", "subtotal_excluding_tax", "total", "total_excluding_tax")


def create(world: World, params: Params) -> JsonObject:
    """An empty draft. Items come by naming it, or those that are pending where the request includes them."""
    if "customer" not in params:
        raise parameter_missing("customer")
    customer = world.get("customer", params["customer"], "customer")
    if "subscription" in params:
        raise unknown_here("an invoice that a request makes for a subscription")
    made = draft(world, customer, "manual")
    made |= {"auto_advance": flag(params, "auto_advance"), "parent": None, "description": params.get("description")}
    made["metadata"] = changed({}, params.get("metadata"))
    if params.get("pending_invoice_items_behavior") == "include":
        for item in world.all("invoiceitem", customer=customer["id"], invoice=None):
            attach(world, item, made)
    if made["auto_advance"]:
        made["automatically_finalizes_at"] = world.now + HOUR_SECONDS
    world.emit("invoice.created", made)
    return made


def draft(world: World, customer: JsonObject, reason: str) -> JsonObject:
    """A draft without lines, of nobody's subscription yet."""
    made = blank("invoice", id=world.ids.new("in"), customer=customer["id"], customer_email=customer["email"])
    made |= {"created": world.now, "period_start": world.now, "period_end": world.now, "billing_reason": reason}
    made |= {"status": "draft", "webhooks_delivered_at": None, **dict.fromkeys(TOTALS, 0)}
    made["lines"] = {**made["lines"], "data": [], "url": f"/v1/invoices/{made['id']}/lines"}
    return world.add("invoice", made)


def add_line(invoice: JsonObject, line: JsonObject) -> None:
    """Add a line; the amounts follow."""
    invoice["lines"]["data"].append(line)
    subtotal = sum(one["subtotal"] for one in invoice["lines"]["data"])
    off = [taken for one in invoice["lines"]["data"] for taken in one["discount_amounts"]]
    total = subtotal - sum(taken["amount"] for taken in off)
    invoice |= dict.fromkeys(TOTALS, total) | {"subtotal": subtotal, "subtotal_excluding_tax": subtotal}
    invoice |= {"total_discount_amounts": off, "discounts": [taken["discount"] for taken in off]}


def create_item(world: World, params: Params) -> JsonObject:
    """`POST /v1/invoiceitems`: for an invoice, or pending."""
    for name in ("customer", "amount"):
        if name not in params:
            raise parameter_missing(name)
    world.get("customer", params["customer"], "customer")
    cents = int(params["amount"])
    invoice = world.get("invoice", params["invoice"], "invoice") if "invoice" in params else None
    if invoice and invoice["status"] != "draft":
        raise StripeRefusal("The invoice is no longer editable.", code="invoice_not_editable", param="invoice")
    item = blank("invoiceitem", id=world.ids.new("ii"), customer=params["customer"], amount=cents, date=world.now)
    item |= {"net_amount": cents, "description": params.get("description"), "created": world.now}
    item |= {"metadata": changed({}, params.get("metadata")), "period": {"start": world.now, "end": world.now}}
    world.add("invoiceitem", item)
    world.emit("invoiceitem.created", item)
    if invoice:
        attach(world, item, invoice)
    return item


def attach(world: World, item: JsonObject, invoice: JsonObject) -> None:
    """A line of the invoice for an item."""
    item["invoice"] = invoice["id"]
    line = blank("line_item", id=world.ids.new("il"), invoice=invoice["id"], amount=item["amount"])
    line |= {name: item[name] for name in ("description", "metadata", "period")} | {"subtotal": item["amount"]}
    details = {"invoice_item": item["id"], "proration": False, "proration_details": {"credited_items": None}}
    line["parent"] = {"type": "invoice_item_details", "subscription_item_details": None}
    line["parent"]["invoice_item_details"] = {**details, "subscription": None}
    line["pricing"] = None
    add_line(invoice, line)


def retrieve(world: World, params: Params, invoice: str) -> JsonObject:
    return _shown(world, world.get("invoice", invoice), "payments" in params.get("expand", ()))


def listed(world: World, params: Params) -> JsonObject:
    narrowed = {name: params[name] for name in ("customer", "status") if name in params}
    found = world.all("invoice", **narrowed)
    if "subscription" in params:
        found = [one for one in found if subscription_of(one) == params["subscription"]]
    answer = page("/v1/invoices", found, params, "invoice")
    expanded = "data.payments" in params.get("expand", ())
    return {**answer, "data": [_shown(world, one, expanded) for one in answer["data"]]}


def payments(world: World, params: Params) -> JsonObject:
    """`GET /v1/invoice_payments`, of an invoice or by a payment intent."""
    found = world.all("invoice_payment", **({"invoice": params["invoice"]} if "invoice" in params else {}))
    intent = (params.get("payment") or {}).get("payment_intent")
    if intent:
        found = [one for one in found if one["payment"].get("payment_intent") == intent]
    return page("/v1/invoice_payments", found, params, "invoice_payment")


def subscription_of(invoice: JsonObject) -> str | None:
    """The subscription it is for."""
    details = (invoice["parent"] or {}).get("subscription_details") or {}
    key: str | None = details.get("subscription")
    return key


def finalize(world: World, params: Params, invoice: str) -> JsonObject:
    known = world.get("invoice", invoice)
    if known["status"] != "draft":
        message = "This invoice is already finalized, you can't re-finalize a non-draft invoice."
        raise StripeRefusal(message, code="invoice_not_editable")
    if not known["lines"]["data"]:
        raise StripeRefusal("The invoice has no line items.", code="invoice_no_customer_line_items")
    known["auto_advance"] = flag(params, "auto_advance", default=known["auto_advance"])
    invoice_payments.finalized(world, known)
    return known


def pay(world: World, params: Params, invoice: str) -> JsonObject:
    """Charge it now, off session unless the request says otherwise; 402 when that fails."""
    known = world.get("invoice", invoice)
    if known["status"] == "paid":
        raise StripeRefusal("Invoice is already paid", code="invoice_already_paid")
    if known["status"] == "draft":
        finalize(world, {}, invoice)
    if known["status"] == "void":
        raise StripeRefusal("This invoice can no longer be paid.", code="invoice_not_editable")
    if flag(params, "paid_out_of_band"):
        raise unknown_here("a payment outside Stripe")
    method = params.get("payment_method") or customers.default_card(world, known["customer"])
    if known["status"] == "open" and (failure := invoice_payments.attempt(world, known, method)):
        raise card_error(failure)
    return known


def void(world: World, _: Params, invoice: str) -> JsonObject:
    known = world.get("invoice", invoice)
    if known["status"] not in ("open", "uncollectible"):
        raise StripeRefusal("You can only pass in open invoices. This invoice isn't open.")
    known |= {"status": "void", "next_payment_attempt": None, "auto_advance": False}
    known["status_transitions"]["voided_at"] = world.now
    world.emit("invoice.voided", known)
    return known


def delete(world: World, _: Params, invoice: str) -> JsonObject:
    known = world.get("invoice", invoice)
    if known["status"] != "draft":
        raise StripeRefusal("You can only delete draft invoices.", code="invoice_not_editable")
    if subscription_of(known):
        raise StripeRefusal("You can't delete invoices created by subscriptions.")
    for item in world.all("invoiceitem", invoice=invoice):
        item["invoice"] = None
    del world.tables["invoice"][invoice]
    world.emit("invoice.deleted", known)
    return {"id": invoice, "object": "invoice", "deleted": True}


def _shown(world: World, invoice: JsonObject, expanded: bool) -> JsonObject:  # noqa: FBT001 - as the request asks
    if not expanded:
        return invoice
    data = world.all("invoice_payment", invoice=invoice["id"])
    listing = {"object": "list", "has_more": False, "url": "/v1/invoice_payments", "data": data}
    return {**invoice, "payments": listing}
