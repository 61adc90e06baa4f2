"""`DELETE /v1/users/{user}`: nothing is left of them, and nothing that comes late changes that (KC-120, KC-121)."""

from collections.abc import Mapping
from typing import Any

import asyncpg
import httpx
import orjson
import pytest

from bursar.billing.account import Profile
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.rows import Hosting, Instance, Subscription
from bursar.billing.stripe.calls import Call, Method
from bursar.billing.values import replace
from bursar.db.items import Outcome, OutcomeState
from bursar.handlers.messages import ReceivedMessage, account_of_event, item_of, resolve_accounts
from bursar.service.deciding.decider import Decider
from bursar.service.steps.endings import CustomerEnder
from bursar.service.steps.step_crew import StepCrew
from bursar.service.steps.together import Together
from bursar.service.web.deleting import deleted
from tests.billing.kiloclaw.making import CATALOGUE, DAY, NOW, a_paid_row, event_json, subscription_json
from tests.db.deciding import an_item
from tests.db.scanning import tables_holding
from tests.service.steps.acting import FakeStripe
from tests.service.web.serving import API, Served

USER, CUSTOMER, EMAIL = "u-4f1c", "cus_4f1c", "ada.lovelace@example.test"
PERSONAL = (USER, CUSTOMER, EMAIL, "Lovelace")


KNOWN_EVERYWHERE = f"""
INSERT INTO accounts VALUES ('customer:{CUSTOMER}', 1);
INSERT INTO early_events VALUES ('evt_e', 'user:{USER}', 'sub_early', '{CUSTOMER}', 'invoice.paid', now(), now());
INSERT INTO kiloclaw_email_log VALUES ('{USER}', 'user:{USER}', 'claw_trial_5d', '', now());
INSERT INTO parked_messages (message_id, account_key, type, headers, body, state, error, attempts,
    first_failed_at, last_failed_at, retry_at) VALUES
    ('evt_p', 'user:{USER}', 'stripe.invoice.paid', '{{"account": "user:{USER}"}}', '{EMAIL}',
        'retrying', 'x', 1, now(), now(), now()),
    ('evt_q', NULL, 'stripe.unreadable', '{{}}', '{{"userId": "{USER}"}}',
        'parked', 'x', 1, now(), now(), NULL),
    ('evt_o', 'user:other', 'stripe.invoice.paid', '{{}}', 'theirs', 'parked', 'x', 1, now(), now(), NULL);
INSERT INTO parked_actions (parked_id, action, actor, reason, acted_at)
    SELECT id, 'replay', 'op', 'for {EMAIL}', now() FROM parked_messages WHERE message_id = 'evt_p';
INSERT INTO steps (key, account_key, kind, payload, journal, error, due_at, created_at, cause) VALUES
    ('mail:{USER}:claw_trial_5d:', 'user:{USER}', 'send_mail', '{{"to": "{EMAIL}"}}', '{{"a": "{CUSTOMER}"}}',
        'about {EMAIL}', now(), now(), 'x'),
    ('read:customer:{CUSTOMER}', 'customer:{CUSTOMER}', 'read_subscriptions', '{{}}',
        NULL, NULL, now(), now(), 'x');
INSERT INTO change_log (account_key, entity, entity_id, before, after, cause, actor, reason, decided_at) VALUES
    ('user:{USER}', 'kiloclaw_subscriptions', '{USER}', NULL,
        '{{"user_id": "{USER}", "stripe_customer_id": "{CUSTOMER}", "stripe_subscription_id": "sub_older"}}',
        'step:mail:{USER}:claw_trial_5d::1:1', '{USER}', 'x', now()),
    ('user:{USER}', 'kiloclaw_subscriptions', '{USER}', '{{"status": "active"}}', '{{"status": "canceled"}}',
        'tick:trial_expiry:2026-01-01:user:{USER}', 'system', 'period over', now());
INSERT INTO ticks (sweep, due_at, created_at) VALUES ('hourly', now(), now());
INSERT INTO tick_partitions (tick_id, partition, cursor, cutoff, began_at)
    SELECT id, 1, '["2026-01-01T00:00:00+00:00", "user:{USER}"]', now(), now() FROM ticks;
"""  # noqa: S608 - of this test


def canceling(**changes: Any) -> Subscription:
    return a_paid_row(
        cancel_at_period_end=True, stripe_subscription_id="sub_4f1c", stripe_customer_id=CUSTOMER, **changes
    )


async def make_user(web: Served, row: Subscription) -> None:
    """A user known to every table there is."""
    instance = Instance(id="inst-1", account_key=f"user:{USER}", created_at=NOW)
    hosting = Hosting(replace(row, user_id=USER, instance_id="inst-1"), (instance,))
    profile = Profile(USER, EMAIL, "Ada Lovelace", CUSTOMER)
    known = an_item("evt_1", USER, lambda account: Decision(account.having(hosting).having(profile)))
    [outcome] = await web.decider.decide([known])
    assert outcome.state is OutcomeState.APPLIED
    await web.post(f"/v1/users/{USER}/kiloclaw/earlybird", {"payment_id": "pay_1"}, key="key-1")
    async with web.decider.pool.acquire() as connection:
        await connection.execute(KNOWN_EVERYWHERE)


async def delete(web: Served, user: str = USER) -> httpx.Response:
    """Deleted, and their customers ended at Stripe, which until then must be known."""
    answer = await web.client.delete(f"/v1/users/{user}", headers=API)
    await end_customers(web)
    return answer


async def end_customers(web: Served) -> None:
    ender = CustomerEnder(NothingOpen(), web.decider)
    crew = StepCrew(ender, web.decider, Together(web.decider), web.metrics)
    for job in await crew.claim(16):
        await crew.carry_out(job)


class NothingOpen(FakeStripe):
    """No customer has anything open at Stripe."""

    async def call(self, call: Call, idempotency_key: str) -> Mapping[str, Any]:
        assert call.method is Method.LIST_CHECKOUT_SESSIONS, f"{call.name} was not expected, under {idempotency_key}"
        return {"data": []}


async def test_kc_121_no_table_holds_a_deleted_user(web: Served, connection: asyncpg.Connection) -> None:
    await make_user(web, canceling())
    assert len(await tables_holding(connection, *PERSONAL)) > 20, "or this test looks at nothing"
    answer = await delete(web)

    assert (answer.status_code, answer.json()) == (200, {"user_id": USER, "deleted": True})
    assert await tables_holding(connection, *PERSONAL) == set()
    [profile] = await connection.fetch("SELECT * FROM users")
    assert profile["user_id"].startswith("deleted:")
    assert profile["deleted_at"] == NOW
    assert (profile["email"], profile["name"], profile["stripe_customer_id"]) == (None, None, None)


async def test_kc_121_the_change_log_stays_under_the_tombstone(web: Served, connection: asyncpg.Connection) -> None:
    await make_user(web, canceling())
    await delete(web)
    told = await connection.fetch("SELECT account_key, entity, entity_id, after FROM change_log ORDER BY id")
    tombstone = await connection.fetchval("SELECT user_id FROM users")
    assert {row["account_key"] for row in told} == {tombstone}
    assert {row["entity_id"] for row in told if row["entity"] == "kiloclaw_subscriptions"} == {tombstone}
    assert '"desired_state": "destroyed"' in told[-1]["after"]
    assert any('"status": "canceled"' in row["after"] for row in told), "what was no personal data is still there"


async def test_kc_120_what_outlives_the_rows(web: Served, connection: asyncpg.Connection) -> None:
    await make_user(web, canceling())
    await delete(web)
    tombstone = await connection.fetchval("SELECT user_id FROM users")
    steps = await connection.fetch(
        "SELECT regexp_replace(key, '[0-9]+$', 'n'), account_key, state FROM steps ORDER BY kind, key"
    )
    assert [tuple(step) for step in steps] == [
        ("end_customer:n", tombstone, "done"),
        ("end-subscription:sub_4f1c", tombstone, "due"),
        ("end-subscription:sub_early", tombstone, "due"),
    ]
    [instance] = await connection.fetch("SELECT account_key, desired_state, generation FROM kiloclaw_instances")
    assert tuple(instance) == (tombstone, "destroyed", 2)
    parked = await connection.fetch("SELECT message_id, state, body FROM parked_messages ORDER BY message_id")
    assert [tuple(one) for one in parked] == [
        ("evt_o", "parked", b"theirs"),
        ("evt_p", "discarded", b""),
        ("evt_q", "discarded", b""),
    ]


async def test_kc_120_refused_changes_nothing(web: Served, connection: asyncpg.Connection) -> None:
    await make_user(web, a_paid_row(stripe_customer_id=CUSTOMER))
    before = await tables_holding(connection, *PERSONAL)
    answer = await delete(web)
    assert (answer.status_code, answer.json()["code"]) == (409, "user_not_deletable")
    assert (
        await tables_holding(connection, *PERSONAL) - before
        == set()
        == before - await tables_holding(connection, *PERSONAL)
    )


async def test_deleting_again_and_deleting_a_stranger_are_the_same(web: Served, connection: asyncpg.Connection) -> None:
    await make_user(web, canceling())
    assert [(await delete(web)).status_code for _ in range(2)] == [200, 200]
    assert (await delete(web, "u-stranger")).status_code == 200
    assert await tables_holding(connection, *PERSONAL, "u-stranger") == set()


LATE = [
    event_json(
        "customer.subscription.created", subscription_json(**({"id": "sub_4f1c"} | about)), NOW + DAY, "evt_late"
    )
    for about in (
        {"customer": CUSTOMER, "metadata": {"type": "kiloclaw", "userId": USER, "plan": "standard"}},
        {"customer": CUSTOMER, "metadata": {"type": "kiloclaw", "plan": "standard"}},
        {"customer": "cus_new", "metadata": {"type": "kiloclaw", "userId": USER}, "id": "sub_new"},
    )
] + [
    event_json(
        "invoice.paid",
        {
            "id": "in_1",
            "object": "invoice",
            "customer": CUSTOMER,
            "parent": {"subscription_details": {"subscription": "sub_4f1c", "metadata": {"type": "kiloclaw"}}},
        },
        NOW + DAY,
        "evt_late",
    )
]


@pytest.mark.parametrize("event", LATE)
async def test_kc_121_a_late_webhook_changes_nothing(
    web: Served, connection: asyncpg.Connection, event: dict[str, Any]
) -> None:
    await make_user(web, canceling())
    await delete(web)
    before = await rows_of(connection)
    outcome = await arrives(web.decider, event)

    assert outcome.decision is not None
    assert outcome.decision.counts == {"deleted_user": 1}
    assert await rows_of(connection) == before
    assert await tables_holding(connection, *PERSONAL) == set()


async def test_kc_121_a_late_command_is_refused(web: Served, connection: asyncpg.Connection) -> None:
    await make_user(web, canceling())
    await delete(web)
    answer = await web.post(f"/v1/users/{USER}/kiloclaw/trial")
    assert (answer.status_code, answer.json()["code"]) == (410, "user_deleted")
    assert await tables_holding(connection, *PERSONAL) == set()


async def test_who_is_told_of_again_starts_afresh(web: Served, connection: asyncpg.Connection) -> None:
    await make_user(web, canceling())
    await delete(web)
    assert (await web.put(f"/v1/users/{USER}", {"stripe_customer_id": CUSTOMER})).status_code == 200
    assert (await web.post(f"/v1/users/{USER}/kiloclaw/trial")).status_code == 200
    for late in (LATE[0], LATE[3]):
        outcome = await arrives(web.decider, late)
        assert outcome.state is OutcomeState.DUPLICATE or outcome.decision is not None
    [row] = await connection.fetch("SELECT plan, stripe_subscription_id FROM kiloclaw_subscriptions")
    assert tuple(row) == ("trial", None), "an event of the subscription that was ended is not theirs"
    assert await connection.fetchval("SELECT count(*) FROM early_events") == 0

    assert (await delete(web)).status_code == 200
    assert await tables_holding(connection, *PERSONAL) == set()
    assert await connection.fetchval("SELECT count(*) FROM users") == 1


async def test_a_customer_who_becomes_known_meanwhile_is_erased_too(
    web: Served, connection: asyncpg.Connection, decider: Decider
) -> None:
    await make_user(web, canceling())
    await connection.execute("UPDATE early_events SET stripe_customer_id = 'cus_second'")
    await deleted(decider, USER, "command:1")
    assert await tables_holding(connection, "cus_second", *PERSONAL) == {"steps.key", "steps.payload"}
    await end_customers(web)
    assert await tables_holding(connection, "cus_second", *PERSONAL) == set()


async def arrives(decider: Decider, event: dict[str, Any]) -> Outcome:
    """As a lane takes it."""
    key = account_of_event(event)
    assert key
    async with decider.pool.acquire() as connection:
        resolved = (await resolve_accounts(connection, {key}))[key]
    message = ReceivedMessage(event["id"], "stripe." + event["type"], resolved, orjson.dumps(event))
    [outcome] = await decider.decide([item_of(message, resolved, CATALOGUE)])
    return outcome


async def rows_of(connection: asyncpg.Connection) -> dict[str, int]:
    tables = ("accounts", "users", "kiloclaw_subscriptions", "early_events", "steps", "change_log", "parked_messages")
    return {table: await connection.fetchval(f"SELECT count(*) FROM {table}") for table in tables}  # noqa: S608
