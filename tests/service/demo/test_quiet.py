import asyncio
from typing import Any

import aio_pika
import asyncpg
import pytest

from bursar.service.demo.quiet import PARTITIONS, POLL_SECONDS, queues_of, quiet_watch, something_waits

STEP_DUE = """
WITH account AS (INSERT INTO accounts (key, partition) VALUES ('user:ann', 0) RETURNING key)
INSERT INTO steps (key, account_key, kind, payload, due_at, created_at, cause)
SELECT 'mail:ann', key, 'mail', '{}', now(), now(), 'test' FROM account
"""
NOTHING = {"due_now": 0, "due_later": 0}
QUIET: dict[str, Any] = {
    "steps": NOTHING,
    "retries": NOTHING,
    "instances_not_brought_about": NOTHING,
    "ticks_running": 0,
}


def test_nothing_waits_when_everything_is_through() -> None:
    assert not something_waits(QUIET)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": {"due_now": 1, "due_later": 0}},
        {"retries": {"due_now": 0, "due_later": 1}},
        {"instances_not_brought_about": {"due_now": 1, "due_later": 0}},
        {"ticks_running": 1},
    ],
)
def test_what_is_not_through_waits(change: dict[str, Any]) -> None:
    assert something_waits({**QUIET, **change})


async def test_a_step_that_is_due_is_not_settled(
    database_url: str, amqp_url: str, connection: asyncpg.Connection
) -> None:
    """`wait_until_settled` returns after the step is through, not before."""
    async with quiet_watch(database_url, amqp_url) as watch:
        await connection.execute(STEP_DUE)
        waiting = asyncio.create_task(watch.wait_until_settled())
        _, pending = await asyncio.wait({waiting}, timeout=3 * POLL_SECONDS)
        assert pending
        await connection.execute("DELETE FROM steps")
        await waiting


async def test_a_queued_message_is_not_quiet(database_url: str, amqp_url: str, connection: asyncpg.Connection) -> None:
    async with await aio_pika.connect(amqp_url) as broker:
        channel = await broker.channel()
        queues = [await channel.declare_queue(name, durable=True) for name in queues_of(PARTITIONS)]
        async with quiet_watch(database_url, amqp_url) as watch:
            await watch.wait()
            await channel.default_exchange.publish(aio_pika.Message(b""), queues[-1].name)
            assert await watch.something_is_queued()
            await queues[-1].purge()
            await watch.wait()
    assert await connection.fetchval("SELECT count(*) FROM inbox") == 0
