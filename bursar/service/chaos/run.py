"""The course of a run: everything is started, disturbed while it works, left alone until it is quiet, and judged."""

import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg

from bursar.billing.values import Value
from bursar.db.clock import set_business_time
from bursar.db.migrate import migrate
from bursar.service.chaos.delivery import Couriers, Deliveries, Endpoint
from bursar.service.chaos.disturbances import Stage, disturb
from bursar.service.chaos.ending import faults_of_ending
from bursar.service.chaos.findings import Findings, find, messages_left
from bursar.service.chaos.keeping import KeptProcess
from bursar.service.chaos.load import Load, delivery_order
from bursar.service.chaos.report import Report
from bursar.service.chaos.service import own_secrets, running_service, settings_of, web_url
from bursar.service.chaos.verdict import delivery_faults, faults_in
from bursar.service.chaos.watching import Watch
from bursar.service.deciding.decider import UNAVAILABLE
from bursar.service.demo.quiet import PARTITIONS
from bursar.service.demo.stand_ins import running_stand_ins
from bursar.service.processes.starting import require_unused
from bursar.service.processes.supervision import wait_or_stop
from bursar.service.servers import Servers

HOUR = timedelta(hours=1)


class Course(Value):
    """What is asked for. So many `hours` of business time pass meanwhile, so that schedulers have something to do;
    `logs` is the folder of the processes' logs.
    """

    load: Load
    users: int
    seconds: float
    hours: int
    seed: int
    logs: Path


async def run_chaos(servers: Servers, course: Course, on_delivered: Callable[[], None]) -> Report:
    """Play the course on servers of its own. Raises `StartError` when the service does not come up."""
    await migrate(servers.database_url)
    await require_unused(servers.database_url, "chaos")
    own = own_secrets()
    with tempfile.TemporaryDirectory() as folder:
        async with running_stand_ins(
            course.load.lives,
            Path(folder),
            instances_secret=own["KILOCLAW_INTERNAL_API_SECRET"],
            stripe_key=own["STRIPE_SECRET_KEY"],
        ) as stand_ins:
            settings = {**own, **settings_of(servers, course.load, stand_ins)}
            await _set_clock(servers.database_url, course.load.business_time)
            async with running_service(settings, course.logs) as processes:
                return await _play(servers, course, settings, processes, on_delivered)


async def _play(
    servers: Servers,
    course: Course,
    settings: Mapping[str, str],
    processes: Mapping[str, KeptProcess],
    on_delivered: Callable[[], None],
) -> Report:
    deliveries = Deliveries()
    watch = Watch(servers.database_url, deliveries)
    began_at = time.monotonic()
    watched = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(watch.run(watched))
        await _deliver_under_disturbances(course, settings, Stage(servers, processes, watch), on_delivered)
        faults = await faults_of_ending(servers.database_url, servers.amqp_url)
        await watch.settle()
        watched.set()
    seconds = time.monotonic() - began_at
    found, left = await _found(servers)
    faults += delivery_faults(deliveries.answers, deliveries.undelivered)
    faults += faults_in(course.load, deliveries.accepted_at.keys(), found, left)
    return _report(course, watch, processes, found, seconds=seconds, faults=faults)


async def _deliver_under_disturbances(
    course: Course, settings: Mapping[str, str], stage: Stage, on_delivered: Callable[[], None]
) -> None:
    """Until everything is delivered; whatever was taken away is there again then."""
    endpoint = Endpoint(f"{web_url(settings)}/webhooks/stripe", settings["STRIPE_WEBHOOK_SECRET"])
    couriers = Couriers(endpoint, stage.watch.deliveries, on_delivered)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(disturb(stage, course.seed, stop))
        group.create_task(_pass_hours(stage.watch.database_url, course, stop))
        await couriers.deliver_all(delivery_order(course.load.events, course.seed), seconds=course.seconds)
        stop.set()


async def _pass_hours(database_url: str, course: Course, stop: asyncio.Event) -> None:
    now = course.load.business_time
    for _ in range(course.hours):
        if await wait_or_stop(stop, course.seconds / course.hours):
            return
        now += HOUR
        with suppress(*UNAVAILABLE):
            await _set_clock(database_url, now)


async def _found(servers: Servers) -> tuple[Findings, dict[str, int]]:
    connection = await asyncpg.connect(servers.database_url)
    try:
        return await find(connection), await messages_left(servers.amqp_url, PARTITIONS)
    finally:
        await connection.close()


async def _set_clock(database_url: str, now: datetime) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await set_business_time(connection, now)
    finally:
        connection.terminate()


def _report(
    course: Course,
    watch: Watch,
    processes: Mapping[str, KeptProcess],
    found: Findings,
    *,
    seconds: float,
    faults: list[str],
) -> Report:
    deliveries = watch.deliveries
    return Report(
        seed=course.seed,
        users=course.users,
        events=len(course.load.events),
        accepted=len(deliveries.accepted_at),
        sent=sum(deliveries.answers.values()),
        resent=deliveries.resent,
        answers=deliveries.answers,
        seconds=seconds,
        delivered_seconds=deliveries.seconds,
        still_seconds=watch.longest_still_seconds,
        untaken_seconds=deliveries.longest_without_seconds,
        disturbed=sorted(watch.disturbed, key=lambda one: one.began_at),
        starts={name: process.starts for name, process in processes.items()},
        ended={name: process.ended for name, process in processes.items() if process.ended},
        changes=found.changes,
        ticks=found.ticks,
        faults=faults,
    )
