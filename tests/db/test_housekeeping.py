"""What is forgotten after its time, while others use it again."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from bursar.db import idempotency
from bursar.db.housekeeping import Forget, forget_answers, forget_steps
from tests.db.test_figures import WAITING_FOR_A_LOCK, WITHIN_SECONDS

NOW = datetime(2026, 6, 1, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=500)
A_DONE_STEP = """
WITH account AS (INSERT INTO accounts (key, partition) VALUES ('user:ann', 0) RETURNING key)
INSERT INTO steps (key, account_key, kind, payload, due_at, created_at, settled_at, state, cause)
SELECT 'read:ann', key, 'read', '{}', $1, $1, $1, 'done', 'test' FROM account
"""
ASKED_AGAIN = "UPDATE steps SET state = 'due', settled_at = NULL"


@pytest.fixture
async def another(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A second session."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def test_a_step_that_is_asked_for_again_meanwhile_is_kept(
    connection: asyncpg.Connection, another: asyncpg.Connection
) -> None:
    await connection.execute(A_DONE_STEP, LONG_AGO)
    async with connection.transaction():
        await connection.execute(ASKED_AGAIN)
        forgetting = await begun(forget_steps, connection, another)
    assert await forgetting == 0
    assert await connection.fetchval("SELECT state FROM steps") == "due"


async def test_a_key_that_is_used_again_meanwhile_is_kept(
    connection: asyncpg.Connection, another: asyncpg.Connection
) -> None:
    await idempotency.claim(connection, claim(LONG_AGO))
    async with connection.transaction():
        assert isinstance(await idempotency.claim(connection, claim(NOW)), idempotency.Ours)
        forgetting = await begun(forget_answers, connection, another)
    assert await forgetting == 0
    assert await connection.fetchval("SELECT created_at FROM idempotency") == NOW


@pytest.mark.parametrize("forget", [forget_steps, forget_answers])
async def test_what_is_old_goes_a_bounded_number_at_a_time(connection: asyncpg.Connection, forget: Forget) -> None:
    await connection.execute(A_DONE_STEP, LONG_AGO)
    await idempotency.claim(connection, claim(LONG_AGO))
    assert [await forget(connection, LONG_AGO, 1), await forget(connection, NOW, 0)] == [0, 0]
    assert [await forget(connection, NOW, 1), await forget(connection, NOW, 1)] == [1, 0]


def claim(at: datetime) -> idempotency.Claim:
    """The same key, claimed at that instant."""
    return idempotency.Claim("POST /v1/users/ann/kiloclaw/trial", "k1", b"body", at)


async def begun(forget: Forget, connection: asyncpg.Connection, another: asyncpg.Connection) -> asyncio.Task[int]:
    """Forgetting in the other session, ended or waiting for a row that this one holds."""
    forgetting = asyncio.create_task(forget_now(forget, another))
    async with asyncio.timeout(WITHIN_SECONDS):
        while not forgetting.done():
            if await connection.fetchval(WAITING_FOR_A_LOCK, another.get_server_pid()):
                break
    return forgetting


async def forget_now(forget: Forget, connection: asyncpg.Connection) -> int:
    """Forget what ended before now."""
    return await forget(connection, NOW, 10)
