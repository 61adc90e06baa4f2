"""What the figures say while the work goes on."""

import asyncio

import asyncpg

from bursar.db.clock import real_now
from bursar.db.figures import figures
from bursar.service.demo.quiet import something_waits

INSTANCE_WAITS = """
WITH account AS (INSERT INTO accounts (key, partition) VALUES ('user:ann', 0) RETURNING key)
INSERT INTO kiloclaw_instances
    (id, account_key, partition, created_at, desired_state, generation, done_generation, wanted_since, due_at)
SELECT 'i-ann', key, 0, now(), 'stopped', 2, 1, now(), now() FROM account
"""
INSTANCE_DONE_MAIL_ASKED = """
WITH done AS (UPDATE kiloclaw_instances SET done_generation = generation RETURNING account_key)
INSERT INTO steps (key, account_key, kind, payload, due_at, created_at, cause)
SELECT 'mail:ann', account_key, 'mail', '{}', now(), now(), 'test' FROM done
"""
WAITING_FOR_A_LOCK = "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $1 AND NOT granted)"
WITHIN_SECONDS = 10


async def test_what_follows_from_an_instance_is_not_missed_between_two_counts(
    connection: asyncpg.Connection, database_url: str
) -> None:
    """One that is stopped while the figures are read, and the mail that follows: either of them waits."""
    await connection.execute(INSTANCE_WAITS)
    reader = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE kiloclaw_instances")
            reading = asyncio.create_task(figures(reader, real_now()))
            async with asyncio.timeout(WITHIN_SECONDS):
                while not await connection.fetchval(WAITING_FOR_A_LOCK, reader.get_server_pid()):
                    assert not reading.done()
            await connection.execute(INSTANCE_DONE_MAIL_ASKED)
        assert something_waits(await reading)
    finally:
        await reader.close()
