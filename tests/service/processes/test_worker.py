"""A real worker: it drains on SIGTERM, and nothing is lost or done twice (MS-2, MS-12)."""

import asyncio
import json
import signal

import asyncpg
import httpx

from bursar.service.broker.publisher import MessagePublisher, open_publisher
from tests.service.cli.running import bursar
from tests.service.processes.running import environment_of, invoice_paid, running, said, until

MESSAGES = 3_000
USERS = 100


async def publish_all(publisher: MessagePublisher) -> None:
    for start in range(0, MESSAGES, 500):
        await asyncio.gather(*(publisher.publish(invoice_paid(n, USERS)) for n in range(start, start + 500)))


async def test_ms_12_a_worker_drains_on_sigterm_and_another_goes_on(
    database_url: str, amqp_url: str, connection: asyncpg.Connection
) -> None:
    async def handled() -> int:
        count: int = await connection.fetchval("SELECT count(*) FROM inbox")
        return count

    async def some() -> bool:
        return await handled() > 0

    async def all_of_them() -> bool:
        return await handled() == MESSAGES

    environment = environment_of(database_url, amqp_url)
    async with open_publisher(amqp_url, 32) as publisher:
        await publish_all(publisher)
    async with running("worker", environment) as first:
        await until(some)
        first.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            await first.communicate()
        assert first.returncode == 0
    async with running("worker", environment):
        await until(all_of_them)
    assert await connection.fetchval("SELECT count(*) FROM parked_messages") == 0
    assert await connection.fetchval("SELECT count(*) FROM workers") <= 1


async def test_ms_8_a_tick_by_hand_is_worked_off(database_url: str, amqp_url: str) -> None:
    environment = environment_of(database_url, amqp_url)
    async with running("worker", environment):
        ran = await asyncio.to_thread(bursar, "tick", "hourly", "--wait", "--json", **environment)
        ticked = json.loads(ran.out)
    assert ticked["state"] == "done"
    assert ticked["counts"]["trial_expiry"]["found"] == 0


async def test_a_worker_is_ready_once_it_consumes(database_url: str, amqp_url: str) -> None:
    async with running("worker", environment_of(database_url, amqp_url)) as worker:
        url = (await said(worker, "listening"))["url"]
        async with httpx.AsyncClient(base_url=url) as client:

            async def ready() -> bool:
                return (await client.get("/readyz")).status_code == 200

            await until(ready)
            names = {check["name"] for check in (await client.get("/readyz")).json()["checks"]}
        assert names >= {"database", "broker", "lanes", "lanes consume", "lag", "steps", "retries"}


async def test_a_worker_refuses_an_unmigrated_database(
    database_url: str, amqp_url: str, connection: asyncpg.Connection
) -> None:
    deleted = await connection.execute("DELETE FROM _pogo_migration")
    async with running("worker", environment_of(database_url, amqp_url)) as worker:
        _, err = await worker.communicate()
    assert worker.returncode == 1
    assert err.decode().splitlines()[-1] == (
        f"bursar: The database lacks {deleted.split()[-1]} of this release's migrations: run `bursar migrate` first."
    )
