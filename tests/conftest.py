"""What tests of the real servers ask for: a database and a virtual host each, of their own."""

from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
import pytest_asyncio

from bursar.service.servers import Servers, running_servers
from tests.servers import fresh_database, fresh_vhost, management_client


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The lengthy files first, whatever their names."""
    items.sort(key=lambda item: item.get_closest_marker("lengthy") is None)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with running_servers("test", durable=False) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def migrated_template(servers: Servers) -> AsyncIterator[str]:
    """The name of a migrated database that nobody is connected to, to clone."""
    from bursar.db.migrate import migrate  # noqa: PLC0415 - tests without a database start without it

    async with fresh_database(servers) as address:
        await migrate(address)
        yield urlsplit(address).path.removeprefix("/")


@pytest.fixture
async def database_url(servers: Servers, migrated_template: str) -> AsyncIterator[str]:
    """The address of this test's own migrated database."""
    async with fresh_database(servers, migrated_template) as address:
        yield address


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    opened = await asyncpg.connect(database_url)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def rabbitmq_management() -> Iterator[httpx.Client]:
    with management_client() as client:
        yield client


@pytest.fixture
def amqp_url(servers: Servers, rabbitmq_management: httpx.Client) -> Iterator[str]:
    """The AMQP address of this test's own virtual host."""
    with fresh_vhost(servers, rabbitmq_management) as address:
        yield address
