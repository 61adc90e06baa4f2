"""Many plans on one database, and what they came to."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from bursar.billing.catalogue import Prices
from bursar.billing.errors import BursarError
from bursar.db.connections import open_pool
from bursar.db.migrate import migrate
from bursar.service.observability.metrics import Metrics
from bursar.service.settings import DEFAULT_CATALOGUE, load_catalogue
from bursar.service.simulation import facts
from bursar.service.simulation.database import MAX_CONNECTIONS, Connections
from bursar.service.simulation.loop import SkippingLoop, awaiting_answer
from bursar.service.simulation.running import Outcome, Plan, Player
from bursar.service.simulation.shrinking import shrunk
from bursar.service.stripe_stand_in.world import COMMIT, STANDARD

PRICES = Prices(standard=(STANDARD.id,), commit=(COMMIT.id,))

Played = Callable[[Outcome], None]


class DatabaseInUse(BursarError):
    """The simulation empties its database: it must not play on one that somebody uses."""


@dataclass(slots=True)
class Summary:
    """What was played, checked and found. `digests` are by seed."""

    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    digests: dict[int, str] = field(default_factory=dict)
    failed: Outcome | None = None
    smallest: Outcome | None = None


def simulate(database_url: str, plans: Sequence[Plan], played: Played, *, shrinks: bool = True) -> Summary:
    """Play until the first failure, which is made smaller if `shrinks`. `played` is told of each plan.

    Raises `DatabaseInUse`.
    """
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        return runner.run(_simulate(database_url, plans, played, shrinks=shrinks))


async def _simulate(database_url: str, plans: Sequence[Plan], played: Played, *, shrinks: bool) -> Summary:
    summary, began = Summary(), time.perf_counter()
    async with _player(database_url) as player:
        for plan in plans:
            outcome = await player.play(plan)
            summary.counts.update(outcome.counts)
            summary.digests[plan.seed] = outcome.digest
            played(outcome)
            if outcome.broken:
                summary.failed = outcome
                summary.smallest = await shrunk(outcome, player.play) if shrinks else outcome
                break
        summary.checks = player.checks
    summary.seconds = time.perf_counter() - began
    return summary


@asynccontextmanager
async def _player(database_url: str) -> AsyncIterator[Player]:
    with awaiting_answer():
        await migrate(database_url)
        pool = await open_pool(database_url, max_size=MAX_CONNECTIONS, name="bursar simulate")
        player = Player(Connections(pool), load_catalogue(DEFAULT_CATALOGUE, PRICES), Metrics())
    try:
        if await player.asked(facts.is_in_use):
            raise DatabaseInUse("The database is in use: the simulation needs one of its own, which it empties.")
        await player.asked(facts.allow_emptying)
        yield player
        await player.asked(facts.empty)
    finally:
        pool.terminate()
