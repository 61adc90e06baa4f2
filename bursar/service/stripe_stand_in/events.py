"""`GET /v1/events`: what happened, newest first."""

from bursar.service.demo.lives import JsonObject
from bursar.service.stripe_stand_in.forms import Params
from bursar.service.stripe_stand_in.lists import page
from bursar.service.stripe_stand_in.refusals import missing
from bursar.service.stripe_stand_in.world import World


def listed(world: World, params: Params) -> JsonObject:
    wanted = set(params.get("types", ())) | ({params["type"]} if "type" in params else set())
    found = [event for event in world.events if not wanted or event["type"] in wanted]
    return page("/v1/events", found, params, "event")


def retrieve(world: World, _: Params, event: str) -> JsonObject:
    for known in world.events:
        if known["id"] == event:
            return known
    raise missing("event", event)
