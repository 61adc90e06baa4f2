"""The verdict of `make chaos` on what really handled messages leave: whole, and with something missing or twice."""

from collections.abc import Sequence
from datetime import timedelta

import asyncpg
import orjson
import pytest

from bursar.billing.catalogue import Catalogue, Prices
from bursar.handlers.messages import ReceivedMessage, account_of_event, item_of
from bursar.service.chaos.findings import find
from bursar.service.chaos.load import chaos_load
from bursar.service.chaos.verdict import delivery_faults, faults_in
from bursar.service.demo.lives import price_environment
from tests.billing.kiloclaw.making import CATALOGUE
from tests.db.deciding import REAL_NOW, StandingClock, a_decider

LOAD = chaos_load(users=3, events=60, seed=1)
IDS = [str(event["id"]) for event in LOAD.events]
STANDARD = price_environment(LOAD.lives)["STRIPE_KILOCLAW_STANDARD_PRICE_ID"]
PRICED = Catalogue(kiloclaw=CATALOGUE.kiloclaw, prices=Prices(standard=(STANDARD,), commit=("price_commit",)))
PAYMENT = LOAD.payments[0]


async def handle(database_url: str, without: str = "") -> None:
    """Every event but one, one after the other: payments first, or a refund's search for its invoice would be due."""
    events = sorted(LOAD.events, key=lambda event: event["type"] != "payment_intent.succeeded")
    messages = [
        ReceivedMessage(event["id"], f"stripe.{event['type']}", str(account_of_event(event)), orjson.dumps(event))
        for event in events
        if event["id"] != without
    ]
    async with a_decider(database_url, StandingClock(LOAD.business_time, REAL_NOW + timedelta(days=900))) as decider:
        outcomes = await decider.decide([item_of(one, one.account, PRICED) for one in messages])
    assert {outcome.state for outcome in outcomes} == {"applied"}


async def faults(connection: asyncpg.Connection, accepted: Sequence[str] = IDS) -> list[str]:
    return faults_in(LOAD, accepted, await find(connection), {})


async def test_nothing_is_wrong_where_everything_was_handled_once(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await handle(database_url)
    assert await faults(connection) == []


def the_last(event_type: str) -> str:
    return [str(event["id"]) for event in LOAD.events if event["type"] == event_type][-1]


@pytest.mark.parametrize(
    ("event_type", "what"),
    [
        ("customer.subscription.created", "in the end"),
        ("payment_intent.succeeded", "the deposit of"),
        ("charge.refunded", "the refund of"),
    ],
)
async def test_ms_2_an_event_that_took_no_effect_is_lost(
    database_url: str, connection: asyncpg.Connection, event_type: str, what: str
) -> None:
    """Of the subscription's first event only the inbox knows: a later one tells the same."""
    lost = the_last(event_type)
    await handle(database_url, without=lost)
    found = await faults(connection)
    assert f"{lost} was accepted and is lost" in found
    if event_type != "customer.subscription.created":
        assert any(what in fault for fault in found)
        assert any("the balance is" in fault for fault in found)


BREAKAGES = {
    "changed ada more than once": """
        INSERT INTO change_log (account_key, entity, entity_id, after, cause, actor, reason, decided_at)
        SELECT 'user:ada', 'row', 'ada', '{}', 'evt_1', 'stripe', 'twice', now() FROM generate_series(1, 2)
        """,
    "has a hole": """
        INSERT INTO change_log (account_key, entity, entity_id, before, after, cause, actor, reason, decided_at)
        VALUES ('user:ada', 'row', 'ada', NULL, '{"status": "active"}', 'evt_1', 'stripe', 'begin', now()),
            ('user:ada', 'row', 'ada', '{"status": "paused"}', '{"status": "active"}', 'evt_2', 'stripe', 'end', now())
        """,
    "was handled and never accepted": "INSERT INTO inbox (message_id, received_at) VALUES ('evt_of_nobody', now())",
    "cancel_at_period_end is": "UPDATE kiloclaw_subscriptions SET cancel_at_period_end = NOT cancel_at_period_end",
    "no row": "DELETE FROM kiloclaw_subscriptions",
    "1 messages are parked": """
        INSERT INTO parked_messages
            (message_id, type, headers, body, state, error, attempts, first_failed_at, last_failed_at)
        VALUES ('evt_1', 'stripe.test', '{}', '', 'parked', 'Unforeseen', 3, now(), now())
        """,
    "1 ticks are not through": "INSERT INTO ticks (sweep, due_at, created_at) VALUES ('hourly', now(), now())",
}


@pytest.mark.parametrize("fault", BREAKAGES)
async def test_ms_3_what_is_broken_is_found(database_url: str, connection: asyncpg.Connection, fault: str) -> None:
    await handle(database_url)
    await connection.execute(BREAKAGES[fault])
    assert [one for one in await faults(connection) if fault in one]


def test_ms_1_what_was_refused_or_never_taken_is_a_fault() -> None:
    assert delivery_faults({200: 5, 503: 2, 0: 1}, undelivered=0) == []
    assert delivery_faults({200: 5, 400: 2}, undelivered=1) == [
        "2 webhooks were answered 400",
        "1 events were never accepted",
    ]
