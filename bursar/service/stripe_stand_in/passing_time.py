"""Stripe's time goes on: what falls due on the way happens, in the order of time."""

from bursar.service.stripe_stand_in import checkout, invoice_payments, phase_changes, renewals
from bursar.service.stripe_stand_in.clock import MAX_DUE, next_due
from bursar.service.stripe_stand_in.world import World


def advance(world: World, until: int) -> None:
    """Walk to that instant in Unix seconds. `ValueError` for one that lies behind."""
    if until < world.now:
        raise ValueError("Stripe's clock does not go back")
    for _ in range(MAX_DUE):
        sources = (phase_changes.due(world), renewals.due(world), invoice_payments.due(world), checkout.due(world))
        falling = next_due(sources, until)
        if falling is None:
            world.now = until
            return
        world.now = max(world.now, falling.at)
        falling.act()
    raise AssertionError(f"more than {MAX_DUE} things fell due")
