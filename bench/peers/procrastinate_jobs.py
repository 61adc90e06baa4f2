"""Procrastinate: `lock=` serialises a user, its worker runs jobs concurrently, finished jobs are deleted.

The follow-up job is deferred on the transaction's own connection; the job itself ends in a transaction after it.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import procrastinate
import psycopg_pool

from bench.peers.contender import AT_ONCE, CONNECTIONS, Addresses, Send, pages
from bench.peers.events import Event
from bench.peers.job import job
from bench.peers.running_jobs import with_psycopg_async

EVENTS, FOLLOW_UPS = "events", "follow_ups"


class Jobs:
    """Its worker with 32 jobs at once, and 16 connections for its own statements beside the 16 of the work."""

    def __init__(self, addresses: Addresses) -> None:
        connector = procrastinate.PsycopgConnector(
            conninfo=addresses.database_url, min_size=CONNECTIONS, max_size=CONNECTIONS
        )
        self._database_url = addresses.database_url
        self._pool: psycopg_pool.AsyncConnectionPool | None = None
        self._app = procrastinate.App(connector=connector)
        self._follow_up = self._app.task(name="follow_up", queue=FOLLOW_UPS)(_follow_up)
        self._handle = self._app.task(name="handle", queue=EVENTS)(self._work_on)

    async def prepare(self) -> None:
        async with self._app.open_async():
            await self._app.schema_manager.apply_schema_async()

    async def fill(self, events: Sequence[Event]) -> None:
        async with self._app.open_async():
            for page in pages(events):
                deferred = [self._deferrer(event).job.evolve(task_kwargs=_arguments(event)) for event in page]
                await self._app.job_manager.batch_defer_jobs_async(deferred)

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[Send]:
        async with self._app.open_async():

            async def send(event: Event) -> None:
                await self._deferrer(event).defer_async(**_arguments(event))

            yield send

    async def work(self) -> None:
        options = {"autocommit": True, "prepare_threshold": 0}
        async with (
            psycopg_pool.AsyncConnectionPool(
                self._database_url, min_size=CONNECTIONS, max_size=CONNECTIONS, kwargs=options
            ) as self._pool,
            self._app.open_async(),
        ):
            await self._app.run_worker_async(queues=[EVENTS], concurrency=AT_ONCE, delete_jobs="successful")

    def _deferrer(self, event: Event) -> procrastinate.jobs.JobDeferrer:
        return self._handle.configure(lock=event.account)

    async def _work_on(self, event_id: str, account: str, body: str) -> None:
        assert self._pool
        event = Event(event_id, account, body.encode())
        async with self._pool.connection() as connection, connection.transaction():
            if await with_psycopg_async(connection, job(event, is_locked=True)):
                await self._follow_up.configure(connection=connection).defer_async(event_id=event_id, account=account)


async def _follow_up(event_id: str, account: str) -> None:
    """Waits in its queue, as every contender's does: the bench ends there."""


def _arguments(event: Event) -> dict[str, str]:
    return {"event_id": event.id, "account": event.account, "body": event.body.decode()}


def contender(addresses: Addresses) -> Jobs:
    return Jobs(addresses)
