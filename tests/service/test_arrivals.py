"""Money that arrives pays what waits for it: each month an item of its own, in the deposit's transaction (CR-40)."""

from datetime import datetime

import orjson

from bursar.billing.account import user_key
from bursar.db.fold import MAX_FOLLOW_UPS
from bursar.db.items import Outcome
from bursar.handlers.messages import ReceivedMessage, item_of
from tests.billing.credits.crediting import DUE, a_credit_row
from tests.billing.kiloclaw.making import CATALOGUE, DAY, event_json
from tests.service.crediting import balance, charges, hosted
from tests.service.steps.acting import Acting, acting
from tests.service.ticks.test_credit_renewals import row

LATE = DUE + 65 * DAY  # three renewals are due: 28 February, 31 March, 30 April
OVERDUE = a_credit_row(status="past_due", past_due_since=DUE)


async def paid(worker: Acting, dollars: int, event_id: str = "evt_1", payment_id: str = "pi_1") -> Outcome:
    """Stripe's word that ada topped up."""
    payment = {
        "id": payment_id,
        "object": "payment_intent",
        "amount_received": dollars * 100,
        "currency": "usd",
        "metadata": {"type": "credit_topup", "userId": "ada"},
    }
    event = event_json("payment_intent.succeeded", payment, worker.clock.now, event_id)
    message = ReceivedMessage(event_id, "stripe.payment_intent.succeeded", user_key("ada"), orjson.dumps(event))
    (outcome,) = await worker.decider.decide([item_of(message, user_key("ada"), CATALOGUE)])
    return outcome


async def overdue(worker: Acting, now: datetime = LATE) -> None:
    worker.clock.now = now
    await hosted(worker, OVERDUE)


async def test_cr_40_cr_32_all_months_behind_are_renewed_at_once_each_as_an_item(database_url: str) -> None:
    async with acting(database_url) as worker:
        await overdue(worker)
        outcome = await paid(worker, 80)

        assert outcome.decision
        assert outcome.decision.counts["renewed"] == 3
        assert (await charges(worker), await balance(worker)) == ([25, 25, 25], 5)
        assert await row(worker, "status", "past_due_since") == ("active", None)
        log = "SELECT after->>'current_period_end' FROM change_log WHERE cause = 'evt_1' ORDER BY id"
        assert [ends_at[:10] for (ends_at,) in await worker.fetch(log)] == ["2026-03-31", "2026-04-30", "2026-05-31"]


async def test_cr_40_cr_3_the_same_money_again_renews_nothing_more(database_url: str) -> None:
    async with acting(database_url) as worker:
        await overdue(worker)
        for event_id in ("evt_1", "evt_1", "evt_2"):
            await paid(worker, 100, event_id)
        assert (await charges(worker), await balance(worker)) == ([25, 25, 25], 25)


async def test_cr_40_cr_39_money_for_two_of_three_renews_two_and_is_past_due_for_the_third(database_url: str) -> None:
    async with acting(database_url) as worker:
        await overdue(worker)
        await paid(worker, 60)
        assert (await charges(worker), await balance(worker)) == ([25, 25], 10)
        assert await row(worker, "status", "past_due_since") == ("past_due", LATE)
        await paid(worker, 20, "evt_2", "pi_2")
        assert (await charges(worker), await row(worker, "status")) == ([25, 25, 25], ("active",))


async def test_cr_40_no_more_than_a_bound_at_once_and_the_tick_goes_on(database_url: str) -> None:
    async with acting(database_url) as worker:
        await overdue(worker, DUE + 400 * DAY)
        await paid(worker, 500)
        assert len(await charges(worker)) == MAX_FOLLOW_UPS
        assert await row(worker, "status") == ("active",)
        await worker.sweep("credit_renewal")
        assert len(await charges(worker)) == MAX_FOLLOW_UPS + 1


async def test_cr_40_cr_4_money_stays_where_charges_are_stopped(database_url: str) -> None:
    async with acting(database_url) as worker:
        worker.clock.now = LATE
        await hosted(worker, OVERDUE, 1)
        await worker.fetch("INSERT INTO credit_mismatches VALUES (DEFAULT, 'ada', 1, 0, now())")
        await paid(worker, 50)
        assert (await charges(worker), await balance(worker)) == ([], 51)
        assert await row(worker, "status") == ("past_due",)
