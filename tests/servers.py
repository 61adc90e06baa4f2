"""Databases and virtual hosts of a test's own, on the servers of the session."""

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx

from bursar.service.servers import Servers

MANAGEMENT_SECONDS = 30.0


@asynccontextmanager
async def fresh_database(servers: Servers, template: str = "template1") -> AsyncIterator[str]:
    """The address of a new database, a copy of `template`, dropped in the end. About 50 ms."""
    name = f"test_{secrets.token_hex(6)}"
    # A name cannot be a parameter; these are ours.
    await _execute(servers, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    try:
        yield urlunsplit(urlsplit(servers.database_url)._replace(path=f"/{name}"))
    finally:
        await _execute(servers, f'DROP DATABASE "{name}" WITH (FORCE)')


async def _execute(servers: Servers, statement: str) -> None:
    connection = await asyncpg.connect(servers.database_url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@contextmanager
def fresh_vhost(servers: Servers, client: httpx.Client) -> Iterator[str]:
    """The AMQP address of a new virtual host, deleted in the end with all its queues. About 20 ms."""
    name = f"test_{secrets.token_hex(6)}"
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
