"""DBOS: a workflow an event, its id the event's, with one transactional step; the account's row lock serialises a user.

A queue partitioned by user would keep the order too; with 20,000 users it looks through as many partitions.
The follow-up job is enqueued by the workflow, which is what makes it certain.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from dbos import DBOS, DBOSClient, SQLAlchemyDatasource

from bench.peers.contender import AT_ONCE, CONNECTIONS, Addresses, Send
from bench.peers.events import Event
from bench.peers.job import job
from bench.peers.running_jobs import with_psycopg

EVENTS, FOLLOW_UPS = "events", "follow_ups"
APPLICATION, VERSION = "bench", "1"
POLLING_SECONDS = 0.02  # it takes up to 32 each time
POOL = {"pool_size": CONNECTIONS, "max_overflow": 0}


class Workflows:
    """An executor with 32 workflows at once."""

    def __init__(self, addresses: Addresses) -> None:
        self._database_url = addresses.database_url

    async def prepare(self) -> None:
        await asyncio.to_thread(self._launch)
        await asyncio.to_thread(DBOS.destroy)

    async def fill(self, events: Sequence[Event]) -> None:
        waiting = iter(events)
        async with self.sending() as send:

            async def courier() -> None:
                for event in waiting:
                    await send(event)

            await asyncio.gather(*(courier() for _ in range(CONNECTIONS)))

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[Send]:
        client = DBOSClient(system_database_url=self._database_url)

        async def send(event: Event) -> None:
            await client.enqueue_async(
                {"workflow_name": "handle", "queue_name": EVENTS, "workflow_id": event.id, "app_version": VERSION},
                event.account,
                event.body.decode(),
            )

        yield send

    async def work(self) -> None:
        await asyncio.to_thread(self._launch)
        await asyncio.Event().wait()

    def _launch(self) -> None:
        DBOS(
            config={
                "name": APPLICATION,
                "system_database_url": self._database_url,
                "sys_db_pool_size": CONNECTIONS,
                "application_version": VERSION,
                "log_level": "WARNING",
                "max_executor_threads": 2 * AT_ONCE,
            }
        )
        source = SQLAlchemyDatasource.create(self._database_url, engine_kwargs=POOL)
        step = source.transaction(name="job", isolation_level="READ COMMITTED")(_transaction(source))
        following = DBOS.workflow(name="follow_up")(_follow_up)

        def handle(account: str, body: str) -> None:
            if step(str(DBOS.workflow_id), account, body):
                DBOS.enqueue_workflow(FOLLOW_UPS, following, account)

        DBOS.workflow(name="handle")(handle)
        DBOS.listen_queues([EVENTS])
        DBOS.launch()
        DBOS.register_queue(EVENTS, worker_concurrency=AT_ONCE, polling_interval_sec=POLLING_SECONDS)
        DBOS.register_queue(FOLLOW_UPS)


def _transaction(source: SQLAlchemyDatasource):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a step
    def work_on(event_id: str, account: str, body: str) -> bool:
        connection = source.sql_session().connection().connection.driver_connection
        return with_psycopg(connection, job(Event(event_id, account, body.encode())))

    return work_on


def _follow_up(account: str) -> None:
    """Waits in its queue, as every contender's does: the bench ends there."""


def contender(addresses: Addresses) -> Workflows:
    return Workflows(addresses)
