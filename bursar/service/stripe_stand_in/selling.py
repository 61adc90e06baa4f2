"""What Stripe sells for us: a price with its product."""

from bursar.service.stripe_stand_in.shapes import blank
from bursar.service.stripe_stand_in.world import Price, World


def sell(world: World, price: Price) -> None:
    """Make the price and its product."""
    product = blank("product", id=world.ids.new("prod", 14), name=price.id, created=world.now, updated=world.now)
    world.add("product", product)
    made = blank("price", id=price.id, product=product["id"], created=world.now, unit_amount=price.cents)
    made["recurring"]["interval_count"] = price.months
    made["unit_amount_decimal"] = str(price.cents)
    world.add("price", made)
