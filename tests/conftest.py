"""What tests of the real servers ask for: a database and a virtual host each, of their own."""

from collections.abc import AsyncIterator, Iterator

import asyncpg
import httpx
import pytest

from bursar.service.servers import Servers
from tests.servers import Databases, fresh_vhost, management_client, servers_of_tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The lengthy files first, whatever their names."""
    items.sort(key=lambda item: item.get_closest_marker("lengthy") is None)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with servers_of_tests("test") as running:
        yield running


@pytest.fixture(scope="session")
def databases(servers: Servers) -> Iterator[Databases]:
    """Migrated databases, one after the other."""
    from bursar.db.migrate import migrate  # noqa: PLC0415 - tests without a database start without it

    made = Databases(servers)
    made.open(migrate)
    yield made
    made.close()


@pytest.fixture
async def database_url(databases: Databases) -> AsyncIterator[str]:
    """The address of this test's own migrated database."""
    async with databases.fresh() as address:
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
