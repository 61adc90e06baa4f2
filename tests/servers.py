"""Databases and virtual hosts of a test's own, on the servers of the session."""

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx

from bursar.service.servers import Servers, running_servers
from bursar.service.servers.instance import try_lock
from bursar.service.servers.running import ROOT

MANAGEMENT_SECONDS = 30.0
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own in it, and only where it is large
MEMORY_BYTES = 4 << 30  # free of it; the servers of a process take some hundred MB
IN_MEMORY = "bursar-tests-"

Result = TypeVar("Result")


@contextmanager
def servers_of_tests(name: str) -> Iterator[Servers]:
    """Servers to use until the block ends, with their files in memory where it has room.

    A database of each test is a thousand small files written and removed: a disk may take ten times as long for them.
    """
    if not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < MEMORY_BYTES:
        with running_servers(name, durable=False, root=ROOT) as running:
            yield running
        return
    _remove_left_over(name)
    root = Path(tempfile.mkdtemp(prefix=f"{IN_MEMORY}{name}-", dir=MEMORY))
    root.chmod(0o755)  # the servers' user enters it
    with running_servers(name, durable=False, root=root) as running:
        yield running
    shutil.rmtree(root)


def _remove_left_over(name: str) -> None:
    """Those of processes that were killed: nobody holds their lock."""
    for root in MEMORY.glob(f"{IN_MEMORY}{name}-*"):
        lock = root / name / "lock"
        if not lock.exists():
            continue  # another process is just making it
        with lock.open("a") as held:
            if try_lock(held.fileno()):
                shutil.rmtree(root, ignore_errors=True)


class Databases:
    """Copies of one migrated database, each of one test.

    The next is made while a test runs, and used ones are dropped meanwhile: in a thread of their own, in their order,
    by one connection. So there are never more than those in use, one to come, and what waits to be dropped.
    """

    def __init__(self, servers: Servers) -> None:
        self._url = servers.database_url
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="databases")
        self._runner = asyncio.Runner()
        self._connection: asyncpg.Connection | None = None
        self._template = ""
        self._next: Future[str] | None = None
        self._drops: list[Future[None]] = []

    def open(self, migrate: Callable[[str], Awaitable[None]]) -> None:
        """Make the one that is copied. Nobody may stay connected to it."""
        name = _new_name()

        async def make() -> str:
            await self._execute(f'CREATE DATABASE "{name}"')
            await migrate(self._address_of(name))
            return name

        self._template = self._do(make).result()

    def close(self) -> None:
        """Drop what is left, and the one that was copied; raises where one could not be dropped."""
        if self._next:
            self._drop(self._next.result())
        self._drop(self._template)

        async def disconnect() -> None:
            if self._connection:
                await self._connection.close()

        self._do(disconnect).result()
        self._thread.submit(self._runner.close).result()
        self._thread.shutdown()
        for drop in self._drops:
            drop.result()

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[str]:
        """The address of one that nobody used."""
        made = self._next or self._make()
        self._next = self._make()
        name = await asyncio.wrap_future(made)
        try:
            yield self._address_of(name)
        finally:
            self._drop(name)

    def _make(self) -> Future[str]:
        name = _new_name()

        async def copy() -> str:
            # Files instead of pages in the log: a third of the work, where a checkpoint is cheap.
            await self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{self._template}" STRATEGY FILE_COPY')
            return name

        return self._do(copy)

    def _drop(self, name: str) -> None:
        self._drops.append(self._do(lambda: self._execute(f'DROP DATABASE "{name}" WITH (FORCE)')))

    def _do(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> Future[Result]:
        return self._thread.submit(lambda: self._runner.run(work()))

    async def _execute(self, statement: str) -> None:
        # A name cannot be a parameter; these are ours.
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(self._url)
        await self._connection.execute(statement)

    def _address_of(self, name: str) -> str:
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{name}"))


def _new_name() -> str:
    return f"test_{secrets.token_hex(6)}"


@contextmanager
def fresh_vhost(servers: Servers, client: httpx.Client) -> Iterator[str]:
    """The AMQP address of a new virtual host, deleted in the end with all its queues. About 20 ms."""
    name = _new_name()
    _answered(client.put(f"{servers.management_url}/api/vhosts/{name}"))
    try:
        yield urlunsplit(urlsplit(servers.amqp_url)._replace(path=f"/{name}"))
    finally:
        _answered(client.delete(f"{servers.management_url}/api/vhosts/{name}"))


def management_client() -> httpx.Client:
    """A client for RabbitMQ's HTTP API; without TLS, whose context alone would cost more than the calls."""
    return httpx.Client(verify=False, timeout=MANAGEMENT_SECONDS)  # noqa: S501 - plain HTTP on the loopback address


def _answered(response: httpx.Response) -> None:
    assert response.is_success, f"RabbitMQ's management API answered {response.status_code}; set AMQP_MANAGEMENT_URL"
