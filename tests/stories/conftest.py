"""One world for each story."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from tests.stories.world import World, a_world

BEGINNING = datetime(2027, 1, 4, 9, tzinfo=UTC)


@pytest.fixture
async def world(database_url: str, amqp_url: str) -> AsyncIterator[World]:
    async with a_world(database_url, amqp_url, BEGINNING) as world:
        yield world
