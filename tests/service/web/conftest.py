from collections.abc import AsyncIterator

import pytest

from bursar.service.deciding.decider import Decider
from tests.db.deciding import StandingClock, a_decider
from tests.service.web.serving import Served, served


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
async def decider(database_url: str, clock: StandingClock) -> AsyncIterator[Decider]:
    async with a_decider(database_url, clock) as opened:
        yield opened


@pytest.fixture
async def web(decider: Decider) -> AsyncIterator[Served]:
    async with served(decider) as running:
        yield running
