"""The billing portal: its configurations, and sessions in which a customer sees it."""

from bursar.service.demo.lives import JsonObject
from bursar.service.stripe_stand_in.forms import Params, changed
from bursar.service.stripe_stand_in.lists import page
from bursar.service.stripe_stand_in.refusals import parameter_missing
from bursar.service.stripe_stand_in.shapes import blank
from bursar.service.stripe_stand_in.world import World


def create_configuration(world: World, params: Params) -> JsonObject:
    if "features" not in params:
        raise parameter_missing("features")
    made = blank("billing_portal.configuration", id=world.ids.new("bpc"), created=world.now, updated=world.now)
    made |= {"metadata": changed({}, params.get("metadata")), "features": _truths(params["features"])}
    made["business_profile"] |= params.get("business_profile", {})
    made["default_return_url"] = params.get("default_return_url")
    return world.add("billing_portal.configuration", made)


def configurations(world: World, params: Params) -> JsonObject:
    narrowed = {"active": params["active"] == "true"} if "active" in params else {}
    found = world.all("billing_portal.configuration", **narrowed)
    return page("/v1/billing_portal/configurations", found, params, "billing_portal.configuration")


def create_session(world: World, params: Params) -> JsonObject:
    if "customer" not in params:
        raise parameter_missing("customer")
    world.get("customer", params["customer"], "customer")
    made = blank("billing_portal.session", id=world.ids.new("bps"), created=world.now, customer=params["customer"])
    if "configuration" in params:
        world.get("billing_portal.configuration", params["configuration"], "configuration")
    made["configuration"] = params.get("configuration") or world.ids.new("bpc")
    made |= {"return_url": params.get("return_url"), "url": f"https://billing.stripe.com/p/session/{made['id']}"}
    return world.add("billing_portal.session", made)


def _truths(sent: object) -> object:
    """`true` and `false` of a form, nested as they are."""
    if isinstance(sent, dict):
        return {name: _truths(value) for name, value in sent.items()}
    return {"true": True, "false": False}.get(sent, sent) if isinstance(sent, str) else sent
