"""Settlement on a real database: at once, twice, and before its subscription is known (CR-51, CR-53, KC-31)."""

import asyncio
from typing import Any

import orjson

from bursar.billing.credits.ledger import Credits
from bursar.billing.kiloclaw.rows import Hosting
from bursar.billing.stripe.objects import StripeInvoice
from bursar.db.items import Item, OutcomeState
from bursar.handlers.messages import ReceivedMessage, item_of
from bursar.service.observability.counting import count_outcomes
from tests.billing.credits.settling import (
    METADATA,
    a_hybrid_row,
    an_old_charge,
    an_unsettled_row,
    invoice_json,
    of_an_older_version,
)
from tests.billing.kiloclaw.making import CATALOGUE, DAY, NOW, a_stripe_subscription, event_json, subscription_json
from tests.service.crediting import balance, hosted
from tests.service.steps.acting import Acting, acting

END = NOW + 30 * DAY
PAIR = [("settlement_deposit", 25_000_000, "in_1"), ("settlement_charge", -25_000_000, "in_1")]


def message(event_id: str, event_type: str, stripe_object: dict[str, Any]) -> Item:
    body = orjson.dumps(event_json(event_type, stripe_object, NOW, event_id))
    return item_of(ReceivedMessage(event_id, f"stripe.{event_type}", "user:ada", body), "user:ada", CATALOGUE)


def paying(event_id: str, **invoice: Any) -> Item:
    return message(event_id, "invoice.paid", invoice_json(**invoice))


async def entries(worker: Acting) -> list[tuple[Any, ...]]:
    return await worker.fetch("SELECT kind, amount_microdollars, payment_id FROM credit_transactions ORDER BY id")


async def row(worker: Acting) -> tuple[Any, ...]:
    (found,) = await worker.fetch(
        """
        SELECT status, payment_source, stripe_subscription_id, current_period_end, credit_renewal_at, settled_at
        FROM kiloclaw_subscriptions
        """
    )
    return found


TOLD = ("updated", "created")  # in that order, so that Stripe is asked
SETTLED = ("active", "credits", "sub_1", END, END, NOW)


async def test_cr_53_the_same_payment_settled_twenty_times_at_once_is_one_pair(database_url: str) -> None:
    async with acting(database_url) as worker:
        await hosted(worker, an_unsettled_row())
        outcomes = await asyncio.gather(*(worker.decider.decide([paying(f"evt_{number}")]) for number in range(20)))

        assert [one.error for (one,) in outcomes] == [None] * 20
        assert (await entries(worker), await row(worker), await balance(worker)) == (PAIR, SETTLED, 0)


async def test_kc_36_cr_57_an_invoice_in_the_shape_of_an_older_version_is_settled(database_url: str) -> None:
    async with acting(database_url) as worker:
        await hosted(worker, an_unsettled_row())
        older = message("evt_1", "invoice.paid", of_an_older_version(invoice_json()))
        (outcome,) = await worker.decider.decide([older])

        assert outcome.error is None
        assert (await entries(worker), await row(worker)) == (PAIR, SETTLED)


async def test_cr_50_two_payments_of_one_period_at_once_are_two_pairs(database_url: str) -> None:
    async with acting(database_url) as worker:
        await hosted(worker, an_unsettled_row())
        items = [paying(f"evt_{number}", id=f"in_{number % 2}") for number in range(8)]
        await asyncio.gather(*(worker.decider.decide([item]) for item in items))

        found = await entries(worker)
        assert sorted({payment for *_, payment in found}) == ["in_0", "in_1"]
        assert (len(found), await row(worker), await balance(worker)) == (4, SETTLED, 0)


async def test_cr_51_where_the_charge_cannot_be_recorded_nothing_is(database_url: str) -> None:
    async with acting(database_url) as worker:
        await hosted(worker, an_unsettled_row())
        before = await row(worker)
        async with worker.decider.pool.acquire() as connection:
            await connection.execute(
                "ALTER TABLE credit_transactions ADD CONSTRAINT broken CHECK (kind <> 'settlement_charge')"
            )
        ((outcome),) = await worker.decider.decide([paying("evt_1")])

        assert outcome.state is OutcomeState.FAILED
        assert (await entries(worker), await row(worker), await balance(worker)) == ([], before, 0)


async def test_kc_31_cr_56_an_invoice_that_comes_first_is_remembered_and_settled(database_url: str) -> None:
    async with acting(database_url) as worker:
        worker.stripe.listed["cus_1"] = [a_stripe_subscription(metadata=METADATA)]
        created = message("evt_2", "customer.subscription.created", subscription_json(metadata=METADATA))
        for item in (paying("evt_1"), created):
            (outcome,) = await worker.decider.decide([item])
            assert outcome.error is None
        assert await entries(worker) == []
        kept = await worker.fetch("SELECT paid_period FROM early_events WHERE event_id = 'evt_1'")
        assert "@" not in str(kept)
        await worker.do_reads()

        assert (await entries(worker), await row(worker), await balance(worker)) == (PAIR, SETTLED, 0)
        assert await worker.fetch("SELECT count(*) FROM early_events") == [(0,)]


async def test_kc_31_a_payment_that_comes_while_stripe_is_asked_is_settled_by_asking_again(database_url: str) -> None:
    async with acting(database_url) as worker:
        worker.stripe.listed["cus_1"] = [a_stripe_subscription(metadata=METADATA)]
        updated = subscription_json(metadata=METADATA)
        await worker.decider.decide([message("evt_1", "customer.subscription.updated", updated)])
        await worker.decider.decide([message("evt_2", "customer.subscription.created", updated)])

        async def meanwhile() -> None:
            await worker.decider.decide([paying("evt_3")])

        worker.stripe.meanwhile = meanwhile
        await worker.do_reads()
        worker.clock.real_now += DAY
        await worker.do_reads()

        assert (await entries(worker), await row(worker)) == (PAIR, SETTLED)


async def test_cr_55_a_subscription_that_was_paid_unheard_of_is_settled_when_it_is_read(database_url: str) -> None:
    async with acting(database_url) as worker:
        await hosted(worker, a_hybrid_row(status="canceled", stripe_subscription_id="sub_0", credit_renewal_at=None))
        worker.stripe.listed["cus_1"] = [a_stripe_subscription(metadata=METADATA)]
        paid_at = {"status_transitions": {"paid_at": int(NOW.timestamp())}}
        worker.stripe.invoices["sub_1"] = StripeInvoice.model_validate(invoice_json(**paid_at))
        said = subscription_json(metadata=METADATA)
        await worker.decider.decide([message(f"evt_{kind}", f"customer.subscription.{kind}", said) for kind in TOLD])
        await worker.do_reads()
        assert worker.stripe.asked == ["cus_1", "sub_0", "paid:sub_1"]

        assert (await entries(worker), await row(worker), await balance(worker)) == (PAIR, SETTLED, 0)
        await worker.decider.decide([paying("evt_3")])
        assert (await entries(worker), await row(worker)) == (PAIR, SETTLED)


async def test_cr_54_what_cannot_be_matched_raises_an_alert(database_url: str) -> None:
    async with acting(database_url) as worker:
        await hosted(worker, a_hybrid_row(current_period_end=NOW), 25)
        old = an_old_charge(f"kiloclaw-settlement:sub_1:{NOW:%Y-%m-%d}")
        await worker.fetch(
            """
            INSERT INTO credit_transactions
                (user_id, kind, amount_microdollars, description, business_key, cause, created_at)
            VALUES ('ada', $1, $2, $3, $4, $5, $6)
            """,
            *(old.kind, old.amount_microdollars, old.description, old.business_key, old.cause, NOW),
        )
        worker.decider.on_commit(count_outcomes(worker.metrics))
        await worker.decider.decide([paying("evt_1", charge="ch_1")])

        assert len(await entries(worker)) == 2
        assert (await row(worker))[3] == END
        assert worker.metrics.registry.get_sample_value("bursar_settlements_unmatched_total") == 1


def test_kc_21_kc_39_the_ledger_is_loaded_only_where_it_may_be_needed() -> None:
    direct = {**METADATA, "funding": "direct"}
    needed = {
        "credits": paying("evt_1").parts,
        "unknown": paying("evt_1", metadata={"type": "kiloclaw"}).parts,
        "direct": paying("evt_1", metadata=direct).parts,
        "one-off": paying("evt_1", parent=None).parts,
    }
    both, hosting = frozenset({Hosting, Credits}), frozenset({Hosting})
    assert needed == {"credits": both, "unknown": both, "direct": hosting, "one-off": hosting}


async def test_cr_50_an_invoice_that_says_direct_of_a_row_in_credits_is_settled_by_a_read(database_url: str) -> None:
    async with acting(database_url) as worker:
        await hosted(worker, an_unsettled_row())
        worker.stripe.listed["cus_1"] = [a_stripe_subscription(metadata=METADATA)]
        await worker.decider.decide([paying("evt_1", metadata={**METADATA, "funding": "direct"})])
        await worker.do_reads()

        assert (await entries(worker), await row(worker)) == (PAIR, SETTLED)
