"""A dispute and the deposit of its payment at the same instant, on a real database (CR-11)."""

import asyncio
from dataclasses import replace

from bursar.billing.account import payment_key, user_key
from bursar.billing.credits.deposits import dispute_closed
from bursar.billing.credits.ledger import Credits
from bursar.billing.credits.payments import DisputeEvent
from bursar.billing.errors import Retryable
from bursar.db.items import Dedupe, Item
from tests.billing.kiloclaw.making import NOW, event_json
from tests.service.crediting import balance, giving
from tests.service.steps.acting import Acting, acting

ROUNDS = 40


def losing(payment_id: str) -> Item:
    """A lost dispute that finds no user for its payment yet."""
    dispute = {"id": f"du_{payment_id}", "amount": 2000, "currency": "usd", "status": "lost", "charge": payment_id}
    event = DisputeEvent.model_validate(event_json("charge.dispute.closed", dispute, NOW, f"evt_{payment_id}"))
    parts = frozenset[type]({Credits})
    return Item(
        event.id, payment_key(payment_id), parts, lambda account, _: dispute_closed(account, event), Dedupe.STATE
    )


async def test_cr_11_a_dispute_at_the_instant_of_its_deposit_is_not_lost(database_url: str) -> None:
    async with acting(database_url) as worker:
        for number in range(ROUNDS):
            await both_at_once(worker, f"ch_{number}")
            assert await balance(worker) == 0, number

        counts = await worker.fetch("SELECT kind, count(*) FROM credit_transactions GROUP BY kind ORDER BY kind")
        assert counts == [("deposit", ROUNDS), ("dispute", ROUNDS)]
        assert await worker.fetch("SELECT * FROM credit_early_disputes") == []


async def both_at_once(worker: Acting, payment_id: str) -> None:
    """A dispute that came too late for its place is tried again where its user is found."""
    item = losing(payment_id)
    [_], [lost] = await asyncio.gather(
        worker.decider.decide([giving(20, payment_id=payment_id)]), worker.decider.decide([item])
    )
    if lost.error:
        assert isinstance(lost.error, Retryable)
        [lost] = await worker.decider.decide([replace(item, key=user_key("ada"))])
    assert lost.error is None
