"""A reversal and the deposit of its payment at the same instant, and what becomes of those whose payment never comes,
on a real database (CR-11, MS-3).
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from bursar.billing.account import payment_key
from bursar.billing.credits.ledger import Credits
from bursar.billing.credits.payments import DisputeEvent
from bursar.billing.credits.reversals import dispute_closed
from bursar.db.early_reversals import KEEP_DAYS
from bursar.db.housekeeping import forget_old
from bursar.db.items import Dedupe, Item
from tests.billing.kiloclaw.making import DAY, NOW, event_json
from tests.service.crediting import balance, giving
from tests.service.steps.acting import Acting, acting
from tests.service.steps.paying import PayingStripe, find_invoices

ROUNDS = 40


@pytest.fixture
async def worker(database_url: str) -> AsyncIterator[Acting]:
    async with acting(database_url) as opened:
        yield replace(opened, stripe=PayingStripe())


def losing(payment_id: str, intent: str | None = None) -> Item:
    """A lost dispute that finds no user for its payment yet."""
    dispute = {"id": f"du_{payment_id}", "amount": 2000, "currency": "usd", "status": "lost", "charge": payment_id}
    dispute |= {"payment_intent": intent}
    event = DisputeEvent.model_validate(event_json("charge.dispute.closed", dispute, NOW, f"evt_{payment_id}"))
    key, parts = payment_key(intent or payment_id), frozenset[type]({Credits})
    return Item(event.id, key, parts, lambda account, _: dispute_closed(account, event), Dedupe.STATE)


async def remembered(worker: Acting) -> int:
    ((count,),) = await worker.fetch("SELECT count(*) FROM credit_early_reversals")
    return int(count)


async def test_cr_11_a_dispute_at_the_instant_of_its_deposit_is_not_lost(worker: Acting) -> None:
    for number in range(ROUNDS):
        outcomes = await asyncio.gather(
            worker.decider.decide([giving(20, payment_id=f"ch_{number}")]),
            worker.decider.decide([losing(f"ch_{number}")]),
        )
        assert [one.error for (one,) in outcomes] == [None, None]
        await find_invoices(worker)
        assert await balance(worker) == 0, number

    counts = await worker.fetch("SELECT kind, count(*) FROM credit_transactions GROUP BY kind ORDER BY kind")
    assert counts == [("deposit", ROUNDS), ("dispute", ROUNDS)]
    assert await remembered(worker) == 0


async def test_cr_11_a_payment_that_is_known_by_its_charge_is_found_though_the_dispute_names_its_intent_first(
    worker: Acting,
) -> None:
    await worker.decider.decide([giving(20, payment_id="ch_1")])
    await worker.decider.decide([losing("ch_1", "pi_1")])
    assert (await balance(worker), await find_invoices(worker)) == (20, 2)

    assert (await balance(worker), await remembered(worker)) == (0, 0)
    await worker.decider.decide([losing("ch_1", "pi_1")])
    assert (await find_invoices(worker), await balance(worker), await remembered(worker)) == (0, 0, 0)


async def test_ms_3_what_was_taken_is_not_remembered_again(worker: Acting) -> None:
    worker.stripe.paid["pi_1"] = ["in_1"]  # type: ignore[attr-defined]  # a PayingStripe
    await worker.decider.decide([losing("ch_1", "pi_1"), losing("ch_1", "pi_1")])
    await find_invoices(worker)
    assert await worker.fetch("SELECT payment_ids FROM credit_early_reversals") == [(["ch_1", "in_1", "pi_1"],)]

    await worker.decider.decide([giving(20, payment_id="in_1")])
    assert (await balance(worker), await remembered(worker)) == (0, 0)
    await worker.decider.decide([losing("ch_1", "pi_1")])
    assert (await balance(worker), await remembered(worker)) == (0, 0)


async def test_cr_11_what_is_nobodys_is_kept_for_a_time_only(worker: Acting) -> None:
    await worker.decider.decide([losing(f"ch_{number}") for number in range(5)])
    kept_until = worker.clock.real_now + KEEP_DAYS * DAY
    instants = (kept_until, kept_until + DAY, kept_until + DAY)
    async with worker.decider.pool.acquire() as connection:
        forgotten = [await forget_old(connection, at, 3) for at in instants]

    assert [one["forgotten_early_reversals"] for one in forgotten] == [0, 3, 2]
    assert await remembered(worker) == 0
