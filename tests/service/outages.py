"""Webhooks flow through a real web process and a real worker while one of their servers is stopped for 20 seconds."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import asyncpg
import httpx
from tenacity import RetryError

from bursar.billing.values import Value
from bursar.handlers.messages import account_of_event
from bursar.service.demo import figures
from bursar.service.demo.expectations import RowView
from bursar.service.demo.lives import JsonObject
from bursar.service.processes.supervision import wait_or_stop
from bursar.service.servers import ServerControl
from tests.service.processes.running import running, said, until
from tests.service.stripe_deliveries import Answer, StripeDeliveries, taken

OUTAGE_SECONDS = 20.0
PER_SECOND = 12.0
HANDLED_BEFORE = 30  # events, before the server is stopped
LOOK_SECONDS = 0.25
LOOK_TIMEOUT_SECONDS = 5.0
LOG_LINES = 5_000
PROCESSES = ("web", "worker")


class Look(Value):
    """At `/readyz` of a process; `status` is 0 where it did not answer."""

    process: str
    asked_at: float
    status: int


class Found(Value):
    """In the database, once everything was delivered and nothing was left to do."""

    inbox: set[str]
    rows: dict[str, RowView]
    parked: dict[str, str]  # message id → state
    doubled: list[tuple[str, str]]  # (cause, entity id) that changed a row more than once
    open_steps: dict[str, int]


class Outage(Value):
    """What was seen from outside. Instants are seconds of the monotonic clock."""

    gone_at: float
    start_ordered_at: float
    back_at: float
    recovered_at: float
    answers: Sequence[Answer]
    looks: Sequence[Look]
    log: Sequence[bytes]
    ended: Sequence[str]  # processes that did not live through it
    found: Found

    def answers_meanwhile(self) -> list[Answer]:
        """To what was sent after the server was gone and before it was started again."""
        return [one for one in self.answers if self.gone_at < one.asked_at < self.start_ordered_at]

    def looks_meanwhile(self, process: str, *, after_seconds: float) -> set[int]:
        """Likewise, of the looks at a process, but for the first seconds."""
        since = self.gone_at + after_seconds
        looks = [look for look in self.looks if look.process == process]
        return {look.status for look in looks if since < look.asked_at < self.start_ordered_at}


@dataclass(slots=True)
class Service:
    """A web process and a worker under watch."""

    environment: Mapping[str, str]
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    looks: list[Look] = field(default_factory=list)
    log: deque[bytes] = field(default_factory=lambda: deque(maxlen=LOG_LINES))

    @property
    def ended(self) -> list[str]:
        return [name for name, process in self.processes.items() if process.returncode is not None]

    @property
    def database_url(self) -> str:
        return self.environment["DATABASE_URL"]

    async def ready_since(self, instant: float) -> bool:
        """Whether the last look at each was after that instant and found it ready."""
        last = {look.process: look for look in self.looks}
        return all(name in last and last[name].status == 200 and last[name].asked_at > instant for name in PROCESSES)

    async def watch(self, name: str, ended: asyncio.Event) -> None:
        async with httpx.AsyncClient(base_url=self.urls[name], timeout=LOOK_TIMEOUT_SECONDS, trust_env=False) as client:
            while not await wait_or_stop(ended, LOOK_SECONDS):
                asked_at = time.monotonic()
                try:
                    status = (await client.get("/readyz")).status_code
                except httpx.TransportError:
                    status = 0
                self.looks.append(Look(name, asked_at, status))


@asynccontextmanager
async def watched_service(environment: dict[str, str]) -> AsyncIterator[Service]:
    """Both processes, ready, with their logs read and their readiness asked for four times a second."""
    service = Service(environment)
    ended = asyncio.Event()
    async with AsyncExitStack() as stack:
        for name in PROCESSES:
            process = service.processes[name] = await stack.enter_async_context(running(name, environment))
            service.urls[name] = (await said(process, "listening"))["url"]
            await stack.enter_async_context(_read_along(process, service.log))
        async with asyncio.TaskGroup() as group:
            for name in PROCESSES:
                group.create_task(service.watch(name, ended))
            try:
                await until(partial(service.ready_since, 0))
                yield service
            finally:
                ended.set()


@asynccontextmanager
async def _read_along(process: asyncio.subprocess.Process, log: deque[bytes]) -> AsyncIterator[None]:
    """Keep its log: a full pipe would stop it."""

    async def read() -> None:
        assert process.stderr
        async for line in process.stderr:
            log.append(line)

    reading = asyncio.create_task(read())
    try:
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await reading


async def outage(server: ServerControl, environment: dict[str, str], events: Sequence[JsonObject]) -> Outage:
    """Deliver the events to a service of that environment, and stop the server in the middle."""
    async with watched_service(environment) as service, asyncio.TaskGroup() as group:
        secret = environment["STRIPE_WEBHOOK_SECRET"]
        deliveries = StripeDeliveries(service.urls["web"], secret, per_second=PER_SECOND)
        delivering = group.create_task(deliveries.deliver_all(events))
        await until(partial(_has_handled, service.database_url, HANDLED_BEFORE))
        await asyncio.to_thread(server.stop)
        gone_at = time.monotonic()
        await wait_or_stop(asyncio.Event(), OUTAGE_SECONDS)
        start_ordered_at = time.monotonic()
        await asyncio.to_thread(server.start)
        back_at = time.monotonic()
        await until(partial(service.ready_since, back_at))
        await until(partial(_has_handled_of, service.database_url, deliveries.answers, back_at))
        recovered_at = time.monotonic()
        deliveries.hurry.set()
        await delivering
        readable = {event["id"] for event in events if account_of_event(event)}
        with suppress(RetryError):  # what is missing after a minute is for the tests to say
            await until(partial(_is_done, service.database_url, readable & taken(deliveries.answers)))
        return Outage(
            gone_at,
            start_ordered_at,
            back_at,
            recovered_at,
            answers=deliveries.answers,
            looks=service.looks,
            log=service.log,
            ended=service.ended,
            found=await _found(service.database_url),
        )


@asynccontextmanager
async def _database(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    try:
        yield connection
    finally:
        await connection.close()


async def _has_handled(database_url: str, count: int) -> bool:
    async with _database(database_url) as connection:
        handled: int = await connection.fetchval("SELECT count(*) FROM inbox")
    return handled >= count


async def _has_handled_of(database_url: str, answers: Sequence[Answer], since: float) -> bool:
    """Whether an event that was first sent and taken since that instant is handled."""
    before = {answer.event_id for answer in answers if answer.asked_at <= since}
    new = taken([answer for answer in answers if answer.asked_at > since]) - before
    async with _database(database_url) as connection:
        return bool(await figures.handled_ids(connection, new))


async def _is_done(database_url: str, event_ids: set[str]) -> bool:
    """Whether all of these are handled, and no step waits."""
    async with _database(database_url) as connection:
        rows = await connection.fetch("SELECT message_id FROM inbox")
        missing = event_ids - {row["message_id"] for row in rows}
        steps = await figures.open_steps(connection)
    return not missing and not steps


async def _found(database_url: str) -> Found:
    async with _database(database_url) as connection:
        inbox = await connection.fetch("SELECT message_id FROM inbox")
        parked = await connection.fetch("SELECT message_id, state FROM parked_messages")
        doubled = await connection.fetch(
            "SELECT cause, entity_id FROM change_log GROUP BY cause, entity, entity_id HAVING count(*) > 1"
        )
        return Found(
            inbox={row["message_id"] for row in inbox},
            rows=await figures.subscription_rows(connection),
            parked={row["message_id"]: row["state"] for row in parked},
            doubled=[(row["cause"], row["entity_id"]) for row in doubled],
            open_steps=await figures.open_steps(connection),
        )
