import json
from typing import Any

import pytest

from bursar.billing.errors import UnreadableMessage
from bursar.db.connections import Connection
from bursar.db.items import Dedupe
from bursar.handlers.messages import (
    HANDLED_STRIPE_TYPES,
    ReceivedMessage,
    account_of_event,
    item_of,
    resolve_accounts,
)
from tests.billing.kiloclaw.making import CATALOGUE, NOW, event_json, subscription_json

UPDATED = "customer.subscription.updated"


def a_message(body: Any = None, message_type: str = f"stripe.{UPDATED}", message_id: str = "evt_1") -> ReceivedMessage:
    event = event_json(UPDATED, subscription_json(), NOW, "evt_1")
    raw = body if isinstance(body, bytes) else json.dumps(event if body is None else body).encode()
    return ReceivedMessage(message_id, message_type, "user:ada", raw)


def unreadable(message: ReceivedMessage) -> str:
    with pytest.raises(UnreadableMessage) as refused:
        item_of(message, message.account, CATALOGUE)
    return str(refused.value)


def test_ms_3_the_item_carries_the_messages_id_and_a_copy_to_park() -> None:
    item = item_of(a_message(), "user:ada", CATALOGUE)

    assert (item.id, item.key, item.dedupe) == ("evt_1", "user:ada", Dedupe.INBOX)
    assert item.copy is not None
    assert item.copy.body == a_message().body


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (a_message(b"{not json"), "not JSON at byte 1"),
        (a_message(b"\xff\xfe"), "not JSON"),
        (a_message([]), "model_type"),
        (a_message({"id": "evt_1"}), "missing"),
        (a_message(message_type="stripe.customer.exploded"), "no handler"),
        (a_message(message_id=""), "needs an id"),
    ],
)
def test_ms_6_what_cannot_be_read_says_why(message: ReceivedMessage, says: str) -> None:
    assert says in unreadable(message)


def test_ms_14_the_error_names_fields_and_never_their_values() -> None:
    body = event_json(UPDATED, subscription_json(status={"card": "4242424242424242"}), NOW, "evt_1")

    error = unreadable(a_message(body))

    assert "status" in error
    assert "4242" not in error


def test_kc_36_an_event_without_a_period_is_unreadable() -> None:
    body = event_json(UPDATED, subscription_json(), NOW, "evt_1")
    del body["data"]["object"]["items"]["data"][0]["current_period_end"]

    assert "current_period_end missing" in unreadable(a_message(body))


@pytest.mark.parametrize(
    ("stripe_object", "account"),
    [
        ({"metadata": {"userId": "ada"}, "customer": "cus_1"}, "user:ada"),
        ({"parent": {"subscription_details": {"metadata": {"userId": "ada"}}}, "customer": "cus_1"}, "user:ada"),
        ({"subscription_details": {"metadata": {"userId": "ada"}}, "subscription": "sub_1"}, "user:ada"),
        ({"metadata": {}, "customer": "cus_1"}, "customer:cus_1"),
        ({"customer": {"id": "cus_1", "object": "customer"}}, "customer:cus_1"),
        ({"metadata": {"userId": 7}, "customer": None}, None),
        ("not an object", None),
    ],
)
def test_ms_4_an_event_belongs_to_its_user_else_to_its_customer(stripe_object: Any, account: str | None) -> None:
    assert account_of_event({"data": {"object": stripe_object}}) == account


async def test_kc_31_a_known_customers_messages_go_to_the_user(connection: Connection) -> None:
    await connection.execute("INSERT INTO accounts VALUES ('user:ada', 0)")
    await connection.execute(
        "INSERT INTO users (user_id, account_key, stripe_customer_id) VALUES ('ada', 'user:ada', 'cus_1')"
    )

    resolved = await resolve_accounts(connection, {"customer:cus_1", "customer:cus_2", "user:bob"})

    assert resolved == {"customer:cus_1": "user:ada", "customer:cus_2": "customer:cus_2", "user:bob": "user:bob"}


def test_the_relay_accepts_what_the_table_handles() -> None:
    assert "invoice.paid" in HANDLED_STRIPE_TYPES
    assert "product.created" not in HANDLED_STRIPE_TYPES


async def test_kc_31_a_customer_known_by_the_row_only_is_its_users(connection: Connection) -> None:
    await connection.execute("INSERT INTO accounts VALUES ('user:ada', 0)")
    await connection.execute(
        """
        INSERT INTO kiloclaw_subscriptions
            (id, user_id, account_key, partition, version, plan, status, payment_source, stripe_subscription_id,
             stripe_customer_id, current_period_start, current_period_end, created_at)
        VALUES (gen_random_uuid(), 'ada', 'user:ada', 0, 1, 'standard', 'active', 'stripe', 'sub_1', 'cus_1',
                now(), now(), now())
        """
    )

    assert await resolve_accounts(connection, {"customer:cus_1"}) == {"customer:cus_1": "user:ada"}
