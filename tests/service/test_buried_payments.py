"""What is told of a deleted user's payments is not about whoever comes back under their id (CR-3, CR-11, KC-121)."""

from typing import Any

import orjson
import pytest

from bursar.billing.account import user_key
from bursar.db.items import Item, OutcomeState
from bursar.handlers.messages import ReceivedMessage, item_of
from bursar.service.web.deleting import deleted, known_again
from tests.billing.kiloclaw.making import CATALOGUE, NOW, event_json
from tests.service.steps.acting import acting

TOP_UP = {"type": "credit_topup", "userId": "ada"}
PAYMENT = {"object": "payment_intent", "id": "pi_1", "amount_received": 2_000, "currency": "usd", "metadata": TOP_UP}
INVOICE = {"object": "invoice", "id": "in_1", "amount_paid": 2_000, "currency": "usd", "metadata": TOP_UP}
CHARGE = {"object": "charge", "id": "ch_1", "payment_intent": "pi_1", "amount": 2_000, "amount_refunded": 2_000}
DISPUTE = {"object": "dispute", "id": "dp_1", "payment_intent": "pi_1", "amount": 2_000, "status": "lost"}


def told(event_id: str, event_type: str, body: dict[str, Any]) -> Item:
    event = event_json(event_type, {"currency": "usd"} | body, NOW, event_id)
    message = ReceivedMessage(event_id, f"stripe.{event_type}", user_key("ada"), orjson.dumps(event))
    return item_of(message, user_key("ada"), CATALOGUE)


@pytest.mark.parametrize(
    ("event_type", "body"),
    [
        ("payment_intent.succeeded", PAYMENT),
        ("invoice.paid", INVOICE | {"payment_intent": "pi_1"}),
        ("charge.refunded", CHARGE | {"metadata": TOP_UP}),
        ("charge.dispute.closed", DISPUTE),
    ],
)
async def test_kc_121_a_buried_payment_says_nothing_of_the_user_who_came_back(
    database_url: str, event_type: str, body: dict[str, Any]
) -> None:
    async with acting(database_url) as worker:
        await worker.decider.decide([told("evt_1", "payment_intent.succeeded", PAYMENT)])
        await deleted(worker.decider, "ada", "command:delete")
        await known_again(worker.decider, "ada", None)
        [outcome] = await worker.decider.decide([told("evt_2", event_type, body)])

        assert (outcome.state, outcome.error) == (OutcomeState.APPLIED, None)
        ((owner, amount),) = await worker.fetch("SELECT user_id, amount_microdollars FROM credit_transactions")
        assert (owner.startswith("deleted:"), amount) == (True, 20_000_000)


async def test_cr_10_a_payment_of_the_user_who_came_back_is_theirs(database_url: str) -> None:
    async with acting(database_url) as worker:
        await worker.decider.decide([told("evt_1", "payment_intent.succeeded", PAYMENT)])
        await deleted(worker.decider, "ada", "command:delete")
        await known_again(worker.decider, "ada", None)
        await worker.decider.decide([told("evt_2", "payment_intent.succeeded", PAYMENT | {"id": "pi_2"})])

        owners = await worker.fetch("SELECT user_id FROM credit_transactions WHERE payment_id = 'pi_2'")
        assert owners == [("ada",)]
