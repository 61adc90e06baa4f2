"""A refunded or disputed payment is matched with the settled invoice that it had paid (CR-11)."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
import pytest

from bursar.billing.errors import Retryable
from bursar.db.items import Item
from bursar.handlers.messages import ReceivedMessage, item_of
from tests.billing.credits.settling import an_unsettled_row, invoice_json
from tests.billing.kiloclaw.making import CATALOGUE, DAY, NOW, event_json
from tests.service.crediting import balance, hosted
from tests.service.steps.acting import Acting, acting
from tests.service.steps.paying import PayingStripe, find_invoices


def message(event_id: str, event_type: str, stripe_object: dict[str, Any]) -> Item:
    body = orjson.dumps(event_json(event_type, stripe_object, NOW, event_id))
    return item_of(ReceivedMessage(event_id, f"stripe.{event_type}", "user:ada", body), "user:ada", CATALOGUE)


def refunding(cents: int, intent: str | None = "pi_1") -> Item:
    charge = {"id": f"ch_{intent}", "amount": 2500, "amount_refunded": cents, "currency": "usd", "customer": "cus_1"}
    return message(f"evt_{cents}_{intent}", "charge.refunded", charge | {"payment_intent": intent})


@pytest.fixture
async def worker(database_url: str) -> AsyncIterator[Acting]:
    async with acting(database_url) as opened:
        settled = replace(opened, stripe=PayingStripe(paid={"pi_1": ["in_1"], "pi_2": ["in_unknown"]}))
        await hosted(settled, an_unsettled_row())
        await settled.decider.decide([message("evt_paid", "invoice.paid", invoice_json())])
        yield settled


async def entries(worker: Acting) -> list[tuple[Any, ...]]:
    return await worker.fetch(
        "SELECT kind, amount_microdollars / 10000, payment_id FROM credit_transactions ORDER BY id"
    )


async def test_cr_11_refunds_of_a_settled_invoice_are_neutral_pairs_and_never_more_than_it(worker: Acting) -> None:
    for cents in (1000, 2500, 1000):
        await worker.decider.decide([refunding(cents)])
        await find_invoices(worker)

    assert (await entries(worker))[2:] == [
        ("settlement_deposit", -1000, "in_1"),
        ("settlement_charge", 1000, "in_1"),
        ("settlement_deposit", -1500, "in_1"),
        ("settlement_charge", 1500, "in_1"),
    ]
    assert await balance(worker) == 0


async def test_cr_11_stripe_is_asked_again_after_a_failure(worker: Acting) -> None:
    worker.stripe.failures = [Retryable("busy")]
    await worker.decider.decide([refunding(2500)])
    await find_invoices(worker)
    assert len(await entries(worker)) == 2

    worker.clock.real_now += DAY
    await find_invoices(worker)
    assert len(await entries(worker)) == 4


@pytest.mark.parametrize("intent", ["pi_2", "pi_3", None])
async def test_cr_11_what_paid_no_settled_invoice_is_none_of_our_business(worker: Acting, intent: str | None) -> None:
    await worker.decider.decide([refunding(2500, intent)])
    await find_invoices(worker)

    assert len(await entries(worker)) == 2
    assert worker.stripe.asked == ([intent] if intent else [])
