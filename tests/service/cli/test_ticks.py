"""`bursar tick` against a real database and broker (MS-8)."""

import json

import aio_pika
import asyncpg

from bursar.service.broker.topology import TICKS
from tests.service.cli.running import Ran, bursar


def tick(database_url: str, amqp_url: str, *arguments: str) -> Ran:
    return bursar("tick", *arguments, DATABASE_URL=database_url, AMQP_URL=amqp_url)


async def test_ms_8_a_tick_is_recorded_and_published(
    database_url: str, amqp_url: str, connection: asyncpg.Connection
) -> None:
    ran = tick(database_url, amqp_url, "trial_expiry", "--at", "2026-07-01T12:00:00+02:00", "--json")
    assert json.loads(ran.out) == {
        "id": 1,
        "sweep": "trial_expiry",
        "due_at": "2026-07-01T10:00:00+00:00",
        "state": "running",
        "counts": {},
    }
    assert await connection.fetchval("SELECT sweep FROM ticks") == "trial_expiry"
    async with await aio_pika.connect(amqp_url) as broker:
        queue = await (await broker.channel()).get_queue(TICKS)
        message = await queue.get()
    assert message is not None
    assert message.message_id == "tick:trial_expiry:2026-07-01T10:00:00+00:00"
    assert json.loads(message.body)["sweep"] == "trial_expiry"


async def test_ms_8_the_same_sweep_and_instant_is_the_same_tick(
    database_url: str, amqp_url: str, connection: asyncpg.Connection
) -> None:
    for _ in range(2):
        assert "Tick 1: hourly due" in tick(database_url, amqp_url, "hourly", "--at", "2026-07-01T10:00:00").out
    assert await connection.fetchval("SELECT count(*) FROM ticks") == 1


async def test_without_an_instant_it_is_due_now_in_business_time(
    database_url: str, amqp_url: str, connection: asyncpg.Connection
) -> None:
    await connection.execute("INSERT INTO business_clock (stands_at) VALUES ('2030-01-01T00:00:00Z')")
    ran = bursar("tick", "hourly", DATABASE_URL=database_url, AMQP_URL=amqp_url, BURSAR_TEST_CLOCK="1")
    assert "due 2030-01-01T00:00:00+00:00" in ran.out


async def test_another_number_of_partitions_is_refused(
    database_url: str, amqp_url: str, connection: asyncpg.Connection
) -> None:
    await connection.execute("INSERT INTO topology (partitions) VALUES (16)")
    ran = tick(database_url, amqp_url, "hourly")
    assert ran.exit_code == 1
    assert "BURSAR_PARTITIONS is 32, but this database was laid out with 16" in ran.err
