"""What every process stands on: settings, catalogue, metrics, a database that is ready, and the decider."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from bursar.billing.catalogue import Catalogue
from bursar.billing.values import Value
from bursar.db.clock import Clock, MachineClock, TestClock
from bursar.db.connections import Pool, open_pool
from bursar.db.decide import Limits
from bursar.db.migrate import migrate
from bursar.service.broker.topology import check_partitions
from bursar.service.deciding.decider import Decider
from bursar.service.observability.counting import count_outcomes
from bursar.service.observability.metrics import Metrics
from bursar.service.processes.starting import require_migrated, wait_for_broker, wait_for_database, while_it_answers
from bursar.service.settings import Settings, load_catalogue

log = structlog.get_logger()

CLOSE_SECONDS = 5.0


class Foundation(Value):
    """Built once per process and passed on."""

    settings: Settings
    catalogue: Catalogue
    metrics: Metrics
    pool: Pool
    clock: Clock
    decider: Decider


@asynccontextmanager
async def foundation(settings: Settings, name: str, *, connections: int) -> AsyncIterator[Foundation]:
    """Wait for the servers, then build. Raises `BursarError` where it must not start."""
    catalogue = load_catalogue(settings.bursar_catalogue, settings.prices)
    await wait_for_database(settings.database_url)
    pool = await while_it_answers(lambda: _opened(settings, name, connections))
    try:
        await wait_for_broker(settings.amqp_url)
        yield built(settings, catalogue, pool)
    finally:
        await _close(pool)


async def _opened(settings: Settings, name: str, connections: int) -> Pool:
    """A pool on a database that fits this release and its settings; `BursarError` where it does not."""
    if settings.bursar_migrate:
        await migrate(settings.database_url)
    pool = await open_pool(settings.database_url, max_size=connections, name=f"bursar {name}")
    try:
        await require_migrated(pool)
        async with pool.acquire() as connection:
            await check_partitions(connection, settings.bursar_partitions)
    except BaseException:
        pool.terminate()
        raise
    return pool


def built(settings: Settings, catalogue: Catalogue, pool: Pool) -> Foundation:
    """What stands on a database that is ready."""
    metrics = Metrics()
    clock: Clock = TestClock() if settings.bursar_test_clock else MachineClock()
    limits = Limits(settings.bursar_partitions, catalogue.kiloclaw.grace.destructions_per_day)
    decider = Decider(pool, clock, limits)
    decider.on_commit(count_outcomes(metrics))
    return Foundation(settings, catalogue, metrics, pool, clock, decider)


async def _close(pool: Pool) -> None:
    """Give connections in use a moment to come back, then cut them: Postgres rolls back what was open."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await pool.close()
    except TimeoutError:
        log.warning("database connections cut", grace_seconds=CLOSE_SECONDS)
        pool.terminate()
