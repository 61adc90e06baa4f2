"""Driving a stand-in that runs as a process of its own: `POST /stand-in/VERB`, form-encoded."""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from bursar.service.demo.lives import JsonObject
from bursar.service.stripe_stand_in.faults import Fault
from bursar.service.stripe_stand_in.forms import Params, number
from bursar.service.stripe_stand_in.world import Card
from tests.stripe.stand_in import StripeStandIn

Verb = Callable[[StripeStandIn, Params], Awaitable[JsonObject]]


async def _pay(stripe: StripeStandIn, params: Params) -> JsonObject:
    card = Card(params.get("card", Card.GOOD))
    return await stripe.customer_pays(params["session"], card, promotion_code=params.get("promotion_code"))


async def _advance(stripe: StripeStandIn, params: Params) -> JsonObject:
    await stripe.advance(int(params["to"]))
    return {"now": stripe.world.now}


async def _card(stripe: StripeStandIn, params: Params) -> JsonObject:
    return {"payment_method": stripe.give_card(params["customer"], Card(params["card"]))}


async def _deliver(stripe: StripeStandIn, params: Params) -> JsonObject:
    doubled = float(params.get("doubled", 0))
    return {"events": await stripe.deliver(shuffle=number(params, "shuffle"), doubled=doubled)}


async def _fault(stripe: StripeStandIn, params: Params) -> JsonObject:
    stripe.faults.next(params["call"], Fault(params["fault"]), times=int(params.get("times", 1)))
    return {}


async def _calls(stripe: StripeStandIn, _: Params) -> JsonObject:
    calls = [{"method": call.method, "path": call.path, "key": call.idempotency_key} for call in stripe.calls]
    return {"calls": calls, "mismatches": stripe.mismatches}


VERBS: Mapping[str, Verb] = MappingProxyType(
    {"pay": _pay, "advance": _advance, "card": _card, "deliver": _deliver, "fault": _fault, "calls": _calls}
)


def controlling(stripe: StripeStandIn) -> Callable[[str, Params], Awaitable[JsonObject]]:
    """What its server calls for such a request; a `KeyError` for an unknown verb or a missing field."""

    async def control(verb: str, params: Params) -> JsonObject:
        return await VERBS[verb](stripe, params)

    return control
