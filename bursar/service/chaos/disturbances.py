"""What is done to the service while it works: three tables of disturbances, all at once, drawn from by a seed."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from random import Random
from urllib.parse import quote

import asyncpg
import httpx

from bursar.billing.values import Value
from bursar.service.chaos.keeping import KeptProcess
from bursar.service.chaos.watching import LOOK_SECONDS, Disturbed, Watch
from bursar.service.deciding.decider import UNAVAILABLE
from bursar.service.processes.supervision import wait_or_stop
from bursar.service.servers import Servers
from bursar.service.servers.control import ServerControl

STOPPED_SECONDS = 5.0
PATIENCE_SECONDS = 30.0
ANSWER_SECONDS = 5.0
WORKERS = ("worker-1", "worker-2", "worker-3")
SCHEDULERS = ("scheduler-1", "scheduler-2")


class Stage(Value):
    """What can be disturbed."""

    servers: Servers
    processes: Mapping[str, KeptProcess]
    watch: Watch


class Disturbance(Value):
    """`act` returns whether it took place: nothing can be done to a process that is just being started."""

    kind: str
    targets: Sequence[str]
    act: Callable[[Stage, str], Awaitable[bool]]


async def kill(stage: Stage, target: str) -> bool:
    """`kill -9`; the process is started again at once."""
    return stage.processes[target].kill()


async def stop_and_continue(stage: Stage, target: str) -> bool:
    """A process that is frozen, and goes on with what it had in hand as if nothing had happened."""
    process = stage.processes[target]
    if not process.pause():
        return False
    try:
        await asyncio.sleep(STOPPED_SECONDS)
    finally:
        process.resume()
    return True


async def cut_database_connections(stage: Stage, target: str) -> bool:
    """Every connection of all processes of one kind, in the middle of whatever they do."""
    with suppress(*UNAVAILABLE):
        connection = await asyncpg.connect(stage.watch.database_url, timeout=ANSWER_SECONDS)
        try:
            cut: int = await connection.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1",
                f"bursar {target}",
            )
        finally:
            connection.terminate()
        return cut > 0
    return False


async def close_broker_connections(stage: Stage, _target: str) -> bool:
    """Every connection to RabbitMQ, through its management API."""
    base = f"{stage.servers.management_url}/api/connections"
    # Plain HTTP on the loopback address: the context for TLS alone would cost more than the calls.
    async with httpx.AsyncClient(verify=False, timeout=ANSWER_SECONDS, trust_env=False) as client:  # noqa: S501
        try:
            names = [one["name"] for one in (await client.get(base)).raise_for_status().json()]
            closed = [await client.delete(f"{base}/{quote(name, safe='')}") for name in names]
        except httpx.HTTPError:
            return False
    return any(answer.is_success for answer in closed)


async def restart(stage: Stage, target: str) -> bool:
    """A shutdown that tidies up (PostgreSQL's is the fast one), and a start."""
    server = _server(stage, target)
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)
    return True


async def crash(stage: Stage, target: str) -> bool:
    """SIGKILL for the whole server, and a start: it recovers from what is on the disk."""
    server = _server(stage, target)
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    return True


def _server(stage: Stage, target: str) -> ServerControl:
    server = stage.servers.postgres if target == "postgres" else stage.servers.rabbitmq
    assert server, "servers of the environment are not disturbed"
    return server


class Kinds(Value):
    """Disturbances that come one after the other, with pauses between these bounds, or as long as the last one took.

    `as_listed`: in this order the first time. `patient`: the next one waits until the service has recovered.
    """

    name: str
    pause_seconds: tuple[float, float]
    disturbances: Sequence[Disturbance]
    as_listed: bool = False
    patient: bool = False


KILLS = Kinds(
    "kills",
    (2.0, 6.0),
    (
        Disturbance("worker killed", WORKERS, kill),
        Disturbance("web killed", ("web",), kill),
        Disturbance("scheduler killed", SCHEDULERS, kill),
    ),
)
STOPS_AND_CUTS = Kinds(
    "stops and cuts",
    (1.0, 4.0),
    (
        Disturbance("worker stopped for 5 s", WORKERS, stop_and_continue),
        Disturbance("web stopped for 5 s", ("web",), stop_and_continue),
        Disturbance("scheduler stopped for 5 s", SCHEDULERS, stop_and_continue),
        Disturbance("workers' database connections cut", ("worker",), cut_database_connections),
        Disturbance("web's database connections cut", ("web",), cut_database_connections),
        Disturbance("schedulers' database connections cut", ("scheduler",), cut_database_connections),
        Disturbance("all broker connections closed", ("all",), close_broker_connections),
    ),
)
RESTARTS = Kinds(
    "restarts",
    (1.0, 5.0),
    (
        Disturbance("PostgreSQL restarted", ("postgres",), restart),
        Disturbance("RabbitMQ restarted", ("rabbitmq",), restart),
        Disturbance("PostgreSQL killed", ("postgres",), crash),
        Disturbance("RabbitMQ killed", ("rabbitmq",), crash),
    ),
    as_listed=True,  # RabbitMQ 3.10 writes down a new queue only some seconds after it was declared
    patient=True,
)


async def disturb(stage: Stage, seed: int, stop: asyncio.Event) -> None:
    """All tables at once until told to stop; returns when the last disturbance is over."""
    restarts = (RESTARTS,) if stage.servers.postgres and stage.servers.rabbitmq else ()
    async with asyncio.TaskGroup() as group:
        for kinds in (KILLS, STOPS_AND_CUTS, *restarts):
            group.create_task(_disturb_one_by_one(stage, kinds, seed, stop))


def drawn(kinds: Kinds, draw: Random) -> Iterator[tuple[Disturbance, str]]:
    """Every kind in an order by chance, then again in another, for ever, each with its target."""
    as_listed = kinds.as_listed
    while True:
        order = kinds.disturbances if as_listed else draw.sample(kinds.disturbances, len(kinds.disturbances))
        for disturbance in order:
            yield disturbance, draw.choice(disturbance.targets)
        as_listed = False


async def _disturb_one_by_one(stage: Stage, kinds: Kinds, seed: int, stop: asyncio.Event) -> None:
    draw = Random(f"{kinds.name}:{seed}")  # noqa: S311 - a course to be repeated, not a secret
    course = drawn(kinds, draw)
    lasted_seconds = 0.0
    while not await wait_or_stop(stop, max(draw.uniform(*kinds.pause_seconds), lasted_seconds)):
        disturbance, target = next(course)
        one = Disturbed(disturbance.kind, target, began_at=time.monotonic())
        if await disturbance.act(stage, target):
            one.over_at = time.monotonic()
            stage.watch.disturbed.append(one)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while kinds.patient and one.recovered_at is None and time.monotonic() < deadline:
            if await wait_or_stop(stop, LOOK_SECONDS):
                return
        lasted_seconds = time.monotonic() - one.began_at
