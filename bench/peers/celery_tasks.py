"""Celery on RabbitMQ: prefork, late acknowledgement, quorum queues, confirmed publishing; no results are kept.

The usual lock per user is a key in Redis, or in the database: here the account's row lock, which costs no server and no
round trip more. The order of a user's events is not kept. The follow-up task is published after the commit and before
the acknowledgement.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import celery
import psycopg

from bench.peers.contender import Addresses, Send, delete_queues
from bench.peers.events import Event
from bench.peers.job import job
from bench.peers.queues import CELERY, CELERY_FOLLOW_UPS
from bench.peers.running_jobs import with_psycopg

PROCESSES = 8  # each waits for the database most of its time
PREFETCH_MULTIPLIER = 16  # its guide: large where tasks are short
SENDING_AT_ONCE = 16

app = celery.Celery("bench", broker=os.environ["AMQP_URL"], set_as_current=True)
app.conf.update(
    broker_transport_options={"confirm_publish": True},
    task_default_queue=CELERY,
    task_default_queue_type="quorum",
    worker_detect_quorum_queues=True,
    task_acks_late=True,
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    worker_prefetch_multiplier=PREFETCH_MULTIPLIER,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    task_routes={"follow_up": {"queue": CELERY_FOLLOW_UPS}},
    broker_connection_retry_on_startup=True,
)

_connections: dict[int, psycopg.Connection[Any]] = {}


def _handle(event_id: str, account: str, body: str) -> None:
    connection = _connection()
    with connection.transaction():
        is_new = with_psycopg(connection, job(Event(event_id, account, body.encode())))
    if is_new:
        follow_up.delay(event_id, account)


def _follow_up(event_id: str, account: str) -> None:
    """Waits in its queue, as every contender's does: the bench ends there."""


handle = app.task(name="handle")(_handle)
follow_up = app.task(name="follow_up")(_follow_up)


def _connection() -> "psycopg.Connection[Any]":
    """This process's own."""
    pid = os.getpid()
    if pid not in _connections:
        _connections[pid] = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True, prepare_threshold=0)
    return _connections[pid]


class Tasks:
    """Its worker as the command line starts it."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses

    async def prepare(self) -> None:
        await delete_queues(self._addresses.amqp_url, CELERY, CELERY_FOLLOW_UPS)

    async def fill(self, events: Sequence[Event]) -> None:
        waiting = iter(events)
        async with self.sending() as send:

            async def courier() -> None:
                for event in waiting:
                    await send(event)

            await asyncio.gather(*(courier() for _ in range(SENDING_AT_ONCE)))

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[Send]:
        async def send(event: Event) -> None:
            await asyncio.to_thread(handle.delay, event.id, event.account, event.body.decode())

        yield send

    async def work(self) -> None:
        arguments = ["--pool", "prefork", "--concurrency", str(PROCESSES), "--loglevel", "WARNING", "--queues", CELERY]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        program = [sys.executable, "-m", "celery", "--app", "bench.peers.celery_tasks", "worker", *arguments, *quiet]
        os.execv(sys.executable, program)  # noqa: S606 - its own command line


def contender(addresses: Addresses) -> Tasks:
    return Tasks(addresses)
