"""Customers and the cards they have given."""

from bursar.service.demo.lives import JsonObject
from bursar.service.stripe_stand_in.forms import Params, changed
from bursar.service.stripe_stand_in.lists import page
from bursar.service.stripe_stand_in.shapes import blank
from bursar.service.stripe_stand_in.world import Card, World


def create(world: World, params: Params) -> JsonObject:
    made = blank("customer", id=world.ids.new("cus", 14), created=world.now)
    made |= {name: params.get(name) for name in ("email", "name", "description", "phone")}
    made |= {"metadata": changed({}, params.get("metadata")), "invoice_prefix": world.ids.hexadecimal(8).upper()}
    world.add("customer", made)
    world.emit("customer.created", made)
    return made


def retrieve(world: World, _: Params, customer: str) -> JsonObject:
    return world.get("customer", customer)


def listed(world: World, params: Params) -> JsonObject:
    narrowed = {"email": params["email"]} if "email" in params else {}
    return page("/v1/customers", world.all("customer", **narrowed), params, "customer")


def payment_methods(world: World, params: Params) -> JsonObject:
    """`GET /v1/payment_methods`: what the customer can pay with."""
    world.get("customer", params.get("customer"), "customer")
    found = world.all("payment_method", customer=params["customer"])
    return page("/v1/payment_methods", found, params, "payment_method")


def give_card(world: World, customer_id: str, card: Card) -> str:
    """Attach a card and make it the default for invoices; the payment method's id."""
    customer = world.get("customer", customer_id)
    method = blank("payment_method", id=world.ids.new("pm"), customer=customer_id, created=world.now)
    world.add("payment_method", method)
    world.cards[method["id"]] = card
    world.emit("payment_method.attached", method)
    with world.updating(customer, "customer.updated"):
        customer["invoice_settings"] = {**customer["invoice_settings"], "default_payment_method": method["id"]}
    key: str = method["id"]
    return key


def default_card(world: World, customer_id: str) -> str | None:
    """The payment method that pays the customer's invoices."""
    customer = world.get("customer", customer_id, "customer")
    method: str | None = customer["invoice_settings"]["default_payment_method"]
    return method
