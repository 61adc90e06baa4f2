"""What customers, banks and their cards do at Stripe, where we are not asked."""

from collections.abc import Sequence

from bursar.service.demo.lives import JsonObject
from bursar.service.simulation.payments import TOP_UP, payments_of_ours
from bursar.service.simulation.simulation import Simulation
from bursar.service.stripe_stand_in import checkout, customers, invoice_payments, invoices, payments
from bursar.service.stripe_stand_in.checkout import CardDeclined
from bursar.service.stripe_stand_in.refusals import StripeRefusal
from bursar.service.stripe_stand_in.world import Card, World

TOP_UP_CENTS = (2_000, 5_000, 10_000)
WORKS_WHILE_ASKED = (Card.GOOD, Card.GOOD, Card.FAILS_LATER, Card.CHALLENGE)  # the customer is there
OF_DELETED, BY_INVOICE, WON = 0.1, 0.3, 0.3  # shares: of commands, of top-ups, of disputes
FAILS_ALONE = (Card.FAILS_LATER, Card.FAILS_LATER, Card.CHALLENGE)


def some_user(simulation: Simulation) -> str:
    """One of them; the first more often than the others, so that some lives are long, and seldom a deleted one."""
    users, rng = simulation.users, simulation.rng
    living = [one for one in users if one not in simulation.deleted]
    chosen = users if not living or rng.random() < OF_DELETED else living
    return chosen[min(rng.randrange(len(chosen)), rng.randrange(len(chosen)))]


async def pay_checkout(simulation: Simulation, user_id: str | None = None) -> str:
    """A user, or this one, fills in a page that is still open."""
    world = simulation.outside.stripe.world
    pages = world.all("checkout.session", status="open")
    session = _chosen(simulation, [one for one in pages if user_id in (None, one["metadata"].get("userId"))])
    if session is None:
        return "nothing"
    card = simulation.rng.choice((*WORKS_WHILE_ASKED, Card.GOOD, Card.DECLINED))
    try:
        checkout.complete(world, session["id"], card)
    except (CardDeclined, StripeRefusal) as refusal:
        return type(refusal).__name__
    return f"{session['metadata'].get('userId')} {session['mode']} {card}"


async def top_up(simulation: Simulation) -> str:
    """A user buys credits elsewhere in the product, which makes the payment or an invoice."""
    world, user_id = simulation.outside.stripe.world, some_user(simulation)
    cents, card = simulation.rng.choice(TOP_UP_CENTS), simulation.rng.choice(WORKS_WHILE_ASKED)
    by_invoice = simulation.rng.random() < BY_INVOICE
    if user_id in simulation.deleted:
        return "nothing"
    customer_id, metadata = _customer(simulation, user_id), {"type": TOP_UP, "userId": user_id}
    method = customers.give_card(world, customer_id, card)
    if by_invoice:
        _pay_invoice(world, customer_id, cents, metadata)
    else:
        payments.attempt(world, payments.intended(world, customer_id, cents, method, metadata), on_session=True)
    return f"{user_id} {cents} {card}{' by invoice' if by_invoice else ''}"


def _pay_invoice(world: World, customer_id: str, cents: int, metadata: dict[str, str]) -> None:
    invoice = invoices.create(world, {"customer": customer_id, "metadata": metadata})
    invoices.create_item(world, {"customer": customer_id, "invoice": invoice["id"], "amount": cents})
    invoices.finalize(world, {}, invoice["id"])
    invoice_payments.attempt(world, invoice, customers.default_card(world, customer_id), on_session=True)


async def refund(simulation: Simulation) -> str:
    """A payment is given back, in part or whole."""
    charge = _chosen(simulation, _charges(simulation))
    if charge is None:
        return "nothing"
    left = charge["amount"] - charge["amount_refunded"]
    cents = simulation.rng.choice((left, max(left // 2, 1)))
    payments.refund(simulation.outside.stripe.world, charge["id"], cents)
    return f"{cents} of {charge['id']}"


async def dispute(simulation: Simulation) -> str:
    """A bank takes a payment back, for the time being or for good."""
    world, charge = simulation.outside.stripe.world, _chosen(simulation, _charges(simulation))
    if charge is None:
        return "nothing"
    won = simulation.rng.random() < WON
    payments.close_dispute(world, payments.dispute(world, charge["id"])["id"], won=won)
    return f"{'won' if won else 'lost'}, {charge['id']}"


async def card_fails(simulation: Simulation) -> str:
    """A customer's card stops to work, or wants 3-D Secure from now on."""
    return _give_card(simulation, simulation.rng.choice(FAILS_ALONE))


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


def _charges(simulation: Simulation) -> list[JsonObject]:
    """What can still be given back or disputed of the payments that are ours."""
    found = [one.charge for one in payments_of_ours(simulation.outside.stripe.world)]
    return [one for one in found if not one["refunded"] and not one["disputed"]]


def _chosen(simulation: Simulation, things: Sequence[JsonObject]) -> JsonObject | None:
    return simulation.rng.choice(things) if things else None
