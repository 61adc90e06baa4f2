"""An account that somebody else holds locked delays the others of its batch by one lock time-out, no more (MS-5)."""

import time
from datetime import timedelta

import asyncpg

from bursar.db import parked
from bursar.db.connections import Connection
from bursar.db.items import Dedupe
from tests.billing.kiloclaw.making import DAY
from tests.db.deciding import REAL_NOW, a_decider, a_subscription_item, an_item

LOCK_TIMEOUT = timedelta(milliseconds=300)
USERS = [f"user-{number}" for number in range(60)]


async def test_ms_5_a_busy_account_is_set_aside_and_the_others_go_on(database_url: str, connection: Connection) -> None:
    holder = await asyncpg.connect(database_url)
    async with a_decider(database_url, lock_timeout=LOCK_TIMEOUT) as decider:
        await decider.decide([an_item(f"evt_0_{user}", user) for user in USERS])
        held = holder.transaction()
        await held.start()
        await holder.execute("SELECT FROM accounts WHERE key = 'user:user-7' FOR UPDATE")
        began = time.monotonic()
        outcomes = await decider.decide([a_subscription_item(f"evt_1_{user}", user) for user in USERS])
        seconds = time.monotonic() - began
        await held.rollback()
        await holder.close()

    assert [outcome.item.key for outcome in outcomes if outcome.state.value != "applied"] == ["user:user-7"]
    assert seconds < 5 * LOCK_TIMEOUT.total_seconds()
    assert await connection.fetchval("SELECT count(*) FROM kiloclaw_subscriptions") == len(USERS) - 1


async def test_ms_3_what_was_set_aside_takes_effect_once_from_its_row(
    database_url: str, connection: Connection
) -> None:
    holder = await asyncpg.connect(database_url)
    message = a_subscription_item("evt_1", "user-7")
    async with a_decider(database_url, lock_timeout=LOCK_TIMEOUT) as decider:
        await decider.decide([an_item("evt_0", "user-7")])
        async with holder.transaction():
            await holder.execute("SELECT FROM accounts WHERE key = 'user:user-7' FOR UPDATE")
            await decider.decide([message, a_subscription_item("evt_2", "user-8")])
        await holder.close()
        waiting = await parked.claim_due(connection, REAL_NOW + DAY, REAL_NOW + 2 * DAY, 16)
        retry = type(message)(message.id, message.key, message.parts, message.decide, Dedupe.PARKED, copy=message.copy)
        again = await decider.decide([retry])
        redelivered = await decider.decide([message])

    assert [one.message_id for one in waiting] == ["evt_1"]
    assert [batch[0].state.value for batch in (again, redelivered)] == ["applied", "duplicate"]
