"""A page at Stripe is paid while its user enrols from credits: money is taken once (CR-25), on a real database."""

from typing import Any

import orjson
import pytest

from bursar.billing.credits.enrolment import Enrolment
from bursar.db.items import Item, Outcome
from bursar.handlers.credits import enrolment_item
from bursar.handlers.messages import ReceivedMessage, item_of
from bursar.service.observability.counting import count_outcomes
from tests.billing.credits.settling import METADATA, a_hybrid_row, invoice_json
from tests.billing.kiloclaw.making import (
    CATALOGUE,
    DAY,
    HOUR,
    NOW,
    a_paid_row,
    a_stripe_subscription,
    a_trial,
    event_json,
    subscription_json,
)
from tests.service.crediting import balance, charges, hosted
from tests.service.steps.acting import Acting, acting

DIRECT = {"metadata": {**METADATA, "funding": "direct"}}
END = ("end-subscription:sub_1", "due")


def message(event_id: str, event_type: str, stripe_object: dict[str, Any]) -> Item:
    body = orjson.dumps(event_json(event_type, stripe_object, NOW, event_id))
    return item_of(ReceivedMessage(event_id, f"stripe.{event_type}", "user:ada", body), "user:ada", CATALOGUE)


def enrolment() -> Item:
    return enrolment_item("ada", Enrolment("commit", "inst-ada", "command:1"), CATALOGUE)


async def decided(worker: Acting, item: Item) -> Outcome:
    (outcome,) = await worker.decider.decide([item])
    while await worker.do_reads():
        pass
    return outcome


async def row(worker: Acting) -> tuple[Any, ...]:
    (found,) = await worker.fetch(
        "SELECT plan, status, payment_source, stripe_subscription_id FROM kiloclaw_subscriptions"
    )
    return found


async def endings(worker: Acting) -> list[tuple[Any, ...]]:
    return await worker.fetch("SELECT key, state FROM steps WHERE kind = 'end_subscription'")


async def alerts(worker: Acting) -> float | None:
    return worker.metrics.registry.get_sample_value("bursar_subscriptions_beside_credits_total")


async def test_cr_25_a_page_that_is_paid_after_the_enrolment_takes_nothing_from_it(database_url: str) -> None:
    async with acting(database_url) as worker:
        worker.decider.on_commit(count_outcomes(worker.metrics))
        await hosted(worker, a_trial(), 100, stripe_customer_id="cus_1")
        assert (await decided(worker, enrolment())).error is None
        worker.stripe.listed["cus_1"] = [a_stripe_subscription(**DIRECT)]
        worker.clock.now = NOW + HOUR
        told = message("evt_1", "customer.subscription.created", subscription_json(**DIRECT))

        assert (await decided(worker, told)).error is None
        assert await row(worker) == ("commit", "active", "credits", None)
        assert (await charges(worker), await balance(worker)) == ([54], 46)
        assert (await endings(worker), await alerts(worker)) == ([END], 1)


@pytest.mark.parametrize("first", ["invoice.paid", "customer.subscription.updated"])
async def test_cr_25_enrolment_waits_for_a_subscription_that_was_told_of(database_url: str, first: str) -> None:
    async with acting(database_url) as worker:
        await hosted(worker, a_trial(), 100, stripe_customer_id="cus_1")
        told = invoice_json(**DIRECT) if first == "invoice.paid" else subscription_json(**DIRECT)
        await decided(worker, message("evt_0", first, told))

        refused = await decided(worker, enrolment())
        assert getattr(refused.error, "code", None) == "already_subscribed"
        worker.stripe.listed["cus_1"] = [a_stripe_subscription(**DIRECT)]
        await decided(worker, message("evt_1", "customer.subscription.created", subscription_json(**DIRECT)))
        assert await row(worker) == ("standard", "active", "stripe", "sub_1")
        assert (await charges(worker), await endings(worker)) == ([], [])


async def test_cr_25_a_paused_subscription_ends_when_its_user_enrolls(database_url: str) -> None:
    async with acting(database_url) as worker:
        await hosted(worker, a_paid_row(status="canceled"), 100, stripe_customer_id="cus_1")
        worker.stripe.listed["cus_1"] = [a_stripe_subscription(status="paused", **DIRECT)]

        assert (await decided(worker, enrolment())).error is None
        assert (await row(worker), await endings(worker)) == (("commit", "active", "credits", None), [END])


async def test_cr_50_kc_31_a_late_invoice_of_the_former_subscription_is_settled(database_url: str) -> None:
    async with acting(database_url) as worker:
        await hosted(worker, a_hybrid_row(status="canceled", credit_renewal_at=None), 100, stripe_customer_id="cus_1")
        worker.clock.now = NOW + 31 * DAY
        worker.stripe.known["sub_1"] = a_stripe_subscription(
            status="canceled", ended_at=int(NOW.timestamp()), metadata=METADATA
        )
        assert (await decided(worker, enrolment())).error is None
        await decided(worker, message("evt_1", "invoice.paid", invoice_json(id="in_late")))

        entries = await worker.fetch(
            "SELECT kind, amount_microdollars FROM credit_transactions WHERE payment_id = 'in_late' ORDER BY id"
        )
        assert entries == [("settlement_deposit", 25_000_000), ("settlement_charge", -25_000_000)]
        assert (await row(worker), await endings(worker)) == (("commit", "active", "credits", None), [])
        assert await worker.fetch("SELECT event_id FROM early_events") == []
