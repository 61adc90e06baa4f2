"""Private servers: what a killed caller leaves behind never stops the next start."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aio_pika
import asyncpg
import pytest

from bursar.service.servers import Servers
from bursar.service.servers.instance import Instance, locked_instance
from bursar.service.servers.machine import server_owner
from bursar.service.servers.postgres import PrivatePostgres
from bursar.service.servers.running import Wanted, private_servers

pytestmark = pytest.mark.lengthy

PROJECT = Path(__file__).parents[3]


def silent(_sentence: str) -> None:
    pass


@contextmanager
def locked(root: Path, name: str = "try", *, durable: bool = True) -> Iterator[Instance]:
    with locked_instance(root, name, durable=durable, owner=server_owner(), progress=silent) as instance:
        yield instance


@contextmanager
def started(instance: Instance, programs: Path) -> Iterator[PrivatePostgres]:
    server = PrivatePostgres(instance, programs)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def another_process(instance: Instance) -> Iterator[int]:
    """The id of a living process of the servers' user that is no server."""
    uid = instance.owner.uid if instance.owner else None
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, user=uid) as process:
        yield process.pid


@contextmanager
def caller(root: Path) -> Iterator[dict[str, str]]:
    """Servers of another process, which is killed in the end as a crash would."""
    arguments = [sys.executable, "-m", "tests.service.servers.caller", str(root)]
    with subprocess.Popen(arguments, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGKILL)


async def write_row(address: str) -> None:
    connection = await asyncpg.connect(address)
    await connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    await connection.close()


async def read_row(address: str) -> int:
    connection = await asyncpg.connect(address)
    number: int = await connection.fetchval("SELECT number FROM kept")
    await connection.close()
    return number


async def publish(address: str) -> None:
    async with await aio_pika.connect(address) as connection:
        channel = await connection.channel()
        await channel.declare_queue("kept", durable=True, arguments={"x-queue-type": "quorum"})
        message = aio_pika.Message(b"kept", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, routing_key="kept")


async def consume(address: str) -> bytes:
    async with await aio_pika.connect(address) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("kept", durable=True, arguments={"x-queue-type": "quorum"})
        message = await queue.get(timeout=30)
        await message.ack()
        return message.body


@pytest.mark.usefixtures("postgres_programs")
async def test_after_kill_9_of_the_caller_the_next_start_works_and_finds_the_data(root: Path) -> None:
    with caller(root) as addresses:
        await write_row(addresses["database_url"])
        await publish(addresses["amqp_url"])
    with private_servers(Wanted("crash", durable=True, root=root, progress=silent)) as servers:
        assert await read_row(servers.database_url) == 7
        assert await consume(servers.amqp_url) == b"kept"
    with pytest.raises(ConnectionRefusedError):
        await asyncpg.connect(addresses["database_url"])


async def test_a_server_that_lost_its_guard_too_is_replaced(root: Path, postgres_programs: Path) -> None:
    with locked(root) as instance, started(instance, postgres_programs) as orphan:
        await write_row(orphan.url)
        guard = orphan._process._guard
        assert guard
        os.kill(guard.pid, signal.SIGKILL)
        guard.wait()
        assert await read_row(orphan.url) == 7  # still there, and nobody's
        with started(instance, postgres_programs) as successor:
            assert await read_row(successor.url) == 7
            with pytest.raises(ConnectionRefusedError):
                await asyncpg.connect(orphan.url)


async def test_data_left_half_made_and_a_stale_pid_file_do_not_stop_the_start(
    root: Path, postgres_programs: Path
) -> None:
    with locked(root) as instance:
        half_made = instance.owned_folder("postgres") / "fresh"
        half_made.mkdir()
        (half_made / "PG_VERSION").write_text("15\n")
        with started(instance, postgres_programs) as server:
            await write_row(server.url)
            server.kill()
            pid_file = instance.folder / "postgres" / "data" / "postmaster.pid"
            with another_process(instance) as stranger:
                pid_file.write_text(f"{stranger}\n{pid_file.parent}\n")
                server.start()
            assert await read_row(server.url) == 7


async def test_postgres_keeps_its_port_and_data_over_a_stop(root: Path, postgres_programs: Path) -> None:
    with locked(root, durable=False) as instance, started(instance, postgres_programs) as server:
        await write_row(address := server.url)
        server.stop()
        with pytest.raises(ConnectionRefusedError):
            await asyncpg.connect(address)
        server.start()
        assert server.url == address
        assert await read_row(address) == 7


async def test_rabbitmq_keeps_its_port_and_messages_over_a_stop(servers: Servers, amqp_url: str) -> None:
    assert servers.rabbitmq, "servers of the environment cannot be stopped: unset DATABASE_URL and AMQP_URL"
    await publish(amqp_url)
    servers.rabbitmq.stop()
    with pytest.raises(aio_pika.exceptions.AMQPConnectionError):
        await aio_pika.connect(amqp_url)
    servers.rabbitmq.start()
    assert await consume(amqp_url) == b"kept"


@pytest.mark.usefixtures("postgres_programs")
async def test_postgres_alone_is_brought_up_where_nobody_wants_a_broker(root: Path) -> None:
    with private_servers(Wanted("alone", durable=False, root=root, progress=silent, with_rabbitmq=False)) as servers:
        await write_row(servers.database_url)
        assert (servers.amqp_url, servers.rabbitmq) == ("", None)
        assert {file.name for file in (root / "alone").glob("*.log")} == {"postgres.log"}
