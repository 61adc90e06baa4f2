"""pgqueuer: jobs in Postgres, fetched in batches. It has no lock per key: the account's row lock serialises a user.

The follow-up job is enqueued on the transaction's own connection; the job itself ends in a transaction after it.
"""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
import pgqueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.domain.settings import db_settings
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from bench.peers.contender import Addresses, Send, open_pool, pages
from bench.peers.events import Event
from bench.peers.job import job
from bench.peers.running_jobs import with_asyncpg

EVENTS, FOLLOW_UPS = "events", "follow_ups"
BATCH = 100  # jobs fetched, and noted as done, together
SEPARATOR = b"\n"


class Jobs:
    """Its queue manager on a pool, the work on another."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses

    async def prepare(self) -> None:
        os.environ["PGQUEUER_DURABILITY"] = "balanced"  # jobs survive a crash; its log and statistics need not
        db_settings.cache_clear()
        connection = await asyncpg.connect(self._addresses.database_url)
        await Queries(AsyncpgDriver(connection)).install()
        await connection.close()

    async def fill(self, events: Sequence[Event]) -> None:
        async with await open_pool(self._addresses.database_url) as pool:
            queries = Queries(AsyncpgPoolDriver(pool))
            for page in pages(events):
                payloads: list[bytes | None] = [_payload(event) for event in page]
                await queries.enqueue([EVENTS] * len(page), payloads, [0] * len(page))

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[Send]:
        async with await open_pool(self._addresses.database_url) as pool:
            queries = Queries(AsyncpgPoolDriver(pool))

            async def send(event: Event) -> None:
                await queries.enqueue(EVENTS, _payload(event))

            yield send

    async def work(self) -> None:
        # A pool of its own: else its statements wait behind those of the jobs it has begun.
        async with (
            await open_pool(self._addresses.database_url) as own,
            await open_pool(self._addresses.database_url) as pool,
        ):
            application = pgqueuer.PgQueuer(AsyncpgPoolDriver(own))

            async def handle(taken: Job) -> None:
                await _handle(pool, taken)

            application.entrypoint(EVENTS)(handle)
            await application.run(batch_size=BATCH, max_concurrent_tasks=2 * BATCH)


async def _handle(pool: asyncpg.Pool, taken: Job) -> None:
    event_id, account, body = (taken.payload or b"").split(SEPARATOR, 2)
    event = Event(event_id.decode(), account.decode(), body)
    async with pool.acquire() as connection, connection.transaction():
        if await with_asyncpg(connection, job(event)):
            await Queries(AsyncpgDriver(connection)).enqueue(FOLLOW_UPS, event_id)


def _payload(event: Event) -> bytes:
    return SEPARATOR.join((event.id.encode(), event.account.encode(), event.body))


def contender(addresses: Addresses) -> Jobs:
    return Jobs(addresses)
