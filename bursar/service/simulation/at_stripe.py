"""What customers, banks and their cards do at Stripe, where we are not asked."""

from collections.abc import Sequence

from bursar.service.demo.lives import JsonObject
from bursar.service.simulation.simulation import Simulation
from bursar.service.stripe_stand_in import checkout, customers, payments
from bursar.service.stripe_stand_in.checkout import CardDeclined
from bursar.service.stripe_stand_in.refusals import StripeRefusal
from bursar.service.stripe_stand_in.world import Card

TOP_UP_CENTS = (2_000, 5_000, 10_000)
TOP_UP = "credit_topup"


async def pay_checkout(simulation: Simulation) -> str:
    """A user fills in a page that is still open."""
    world = simulation.outside.stripe.world
    session = _chosen(simulation, world.all("checkout.session", status="open"))
    if session is None:
        return "nothing"
    card = simulation.rng.choice((Card.GOOD, Card.GOOD, Card.GOOD, Card.FAILS_LATER, Card.DECLINED, Card.CHALLENGE))
    try:
        checkout.complete(world, session["id"], card)
    except (CardDeclined, StripeRefusal) as refusal:
        return type(refusal).__name__
    return f"{session['metadata'].get('userId')} {card}"


async def top_up(simulation: Simulation) -> str:
    """A user buys credits."""
    world, user_id = simulation.outside.stripe.world, simulation.rng.choice(simulation.users)
    cents = simulation.rng.choice(TOP_UP_CENTS)
    if user_id in simulation.deleted:
        return "nothing"
    customer_id = _customer(simulation, user_id)
    method = customers.give_card(world, customer_id, Card.GOOD)
    metadata = {"type": TOP_UP, "userId": user_id}
    payments.attempt(world, payments.intended(world, customer_id, cents, method, metadata), on_session=True)
    return f"{user_id} {cents}"


async def refund(simulation: Simulation) -> str:
    """We give a top-up back, in part or whole."""
    world = simulation.outside.stripe.world
    charge = _chosen(simulation, [one for one in _top_ups(simulation) if not one["refunded"] and not one["disputed"]])
    if charge is None:
        return "nothing"
    left = charge["amount"] - charge["amount_refunded"]
    cents = simulation.rng.choice((left, max(left // 2, 1)))
    payments.refund(world, charge["id"], cents)
    return f"{cents}"


async def dispute(simulation: Simulation) -> str:
    """A bank takes a top-up back, for the time being or for good."""
    world = simulation.outside.stripe.world
    charge = _chosen(simulation, [one for one in _top_ups(simulation) if not one["refunded"] and not one["disputed"]])
    if charge is None:
        return "nothing"
    won = simulation.rng.random() < 0.5  # noqa: PLR2004 - as often won as lost
    payments.close_dispute(world, payments.dispute(world, charge["id"])["id"], won=won)
    return "won" if won else "lost"


async def card_fails(simulation: Simulation) -> str:
    """A customer's card stops to work."""
    return _give_card(simulation, Card.FAILS_LATER)


async def card_works(simulation: Simulation) -> str:
    """A customer gives a card that works."""
    return _give_card(simulation, Card.GOOD)


def _give_card(simulation: Simulation, card: Card) -> str:
    world = simulation.outside.stripe.world
    customer = _chosen(simulation, world.all("customer"))
    if customer is None:
        return "nothing"
    customers.give_card(world, customer["id"], card)
    return f"{customer['metadata'].get('userId')}"


def _customer(simulation: Simulation, user_id: str) -> str:
    """The user's customer; the product makes one where there is none."""
    world = simulation.outside.stripe.world
    known = [one for one in world.all("customer") if one["metadata"].get("userId") == user_id]
    made = (
        known[0]
        if known
        else customers.create(world, {"email": f"{user_id}@example.test", "metadata": {"userId": user_id}})
    )
    key: str = made["id"]
    return key


def _top_ups(simulation: Simulation) -> list[JsonObject]:
    world = simulation.outside.stripe.world
    of_top_ups = {one["id"] for one in world.all("payment_intent") if one["metadata"].get("type") == TOP_UP}
    return [one for one in world.all("charge") if one["payment_intent"] in of_top_ups and one["paid"]]


def _chosen(simulation: Simulation, things: Sequence[JsonObject]) -> JsonObject | None:
    return simulation.rng.choice(things) if things else None
