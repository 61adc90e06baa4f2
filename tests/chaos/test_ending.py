"""When a course counts as over."""

import asyncio

import aio_pika
import asyncpg

from bursar.service.chaos.ending import POLL_SECONDS, faults_of_ending
from bursar.service.demo.quiet import CALM_SECONDS, PARTITIONS, queues_of

TICK = "INSERT INTO ticks (sweep, due_at, created_at) VALUES ('hourly', now(), now())"
STEP_DUE = """
WITH account AS (INSERT INTO accounts (key, partition) VALUES ('user:ann', 0) RETURNING key)
INSERT INTO steps (key, account_key, kind, payload, due_at, created_at, cause)
SELECT 'gap_check', key, 'gap_check', '{}', now(), now(), 'tick' FROM account
"""
LONG_ENOUGH_SECONDS = CALM_SECONDS + 10 * POLL_SECONDS  # a course that is over would have ended by then


async def _still_waits(ending: asyncio.Task[list[str]]) -> bool:
    _, pending = await asyncio.wait({ending}, timeout=LONG_ENOUGH_SECONDS)
    return bool(pending)


async def test_ms_8_a_course_is_over_once_what_its_last_tick_asked_for_is_done(
    database_url: str, amqp_url: str, connection: asyncpg.Connection
) -> None:
    """A tick whose message was lost is expanded when all else has long been quiet; its steps are no fault."""
    async with await aio_pika.connect(amqp_url) as broker:
        channel = await broker.channel()
        for name in queues_of(PARTITIONS):
            await channel.declare_queue(name, durable=True)
        await connection.execute(TICK)
        ending = asyncio.create_task(faults_of_ending(database_url, amqp_url))
        assert await _still_waits(ending)
        async with connection.transaction():
            await connection.execute("UPDATE ticks SET expanded_at = now(), partitions = 0")
            await connection.execute(STEP_DUE)
        assert await _still_waits(ending)
        await connection.execute("UPDATE steps SET state = 'done', settled_at = now()")
        assert await ending == []
