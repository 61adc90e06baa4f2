"""`bursar scheduler`: the ticks. One of several leads, the others stand by and are ready, too."""

import asyncio

from bursar.service.broker.publisher import open_publisher
from bursar.service.processes.foundation import foundation
from bursar.service.processes.health import health_server
from bursar.service.processes.lifetime import Part, run_parts
from bursar.service.processes.publishing import PublisherKeeper
from bursar.service.processes.readiness import ProcessReadiness
from bursar.service.settings import Settings
from bursar.service.ticks.scheduler import Scheduler

CONNECTIONS = 2  # for readiness; the scheduler itself has one of its own, which holds the leader's lock


async def run_scheduler(settings: Settings, stop: asyncio.Event) -> None:
    """Stand by and lead until `stop`."""
    async with (
        foundation(settings, "scheduler", connections=CONNECTIONS) as base,
        open_publisher(settings.amqp_url, settings.bursar_partitions) as publisher,
    ):
        keeper = PublisherKeeper(publisher)
        scheduler = Part.of("scheduler", Scheduler(settings.database_url, base.clock, publisher, base.metrics).run)
        readiness = ProcessReadiness(base.pool, [scheduler.state], [keeper.check])
        health = health_server(settings, base.metrics, readiness)
        parts = [scheduler, Part.of("publisher", keeper.run), Part.of("health", health.run)]
        await run_parts(parts, stop, settings.bursar_drain_seconds)
