"""Who is measured, in the order of the table, and how each one's processes are started."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.events import PRICE_ID
from bench.peers.contender import Addresses
from bench.peers.queues import BY_HAND, CELERY, PARTITION_QUEUES
from bursar.billing.values import Value
from bursar.db.batches import BATCHES_AT_ONCE, MAX_ITEMS
from bursar.service.processes.development import development_settings

CHECKOUT = Path(__file__).parents[1]
PEERS_PYTHON = CHECKOUT / ".venv-bench" / "bin" / "python"
NOBODY = "http://127.0.0.1:9"  # follow-up jobs wait, as every contender's do: nothing answers there
BURSAR = "bursar"
MANY = 5  # times the events of the others for the quick ones, so that their rounds last some seconds, too
TURNS = 3  # of a round for them, side by side: what is compared most closely must not be minutes apart
PER_MESSAGE = "transaction_per_message"
DRAIN = "drain"

# How many follow-up jobs are missing. Bursar asks for one an account, again and again.
MISSING_OF_BURSAR = """
    SELECT count(*) FROM (SELECT account_key FROM change_log EXCEPT SELECT account_key FROM steps) AS missing
    """
MISSING_STEPS = "SELECT count(*) FROM inbox WHERE NOT EXISTS (SELECT FROM steps WHERE cause = message_id)"
MISSING_OF_PROCRASTINATE = """
    SELECT (SELECT count(*) FROM inbox)
        - (SELECT count(*) FROM procrastinate_jobs WHERE queue_name = 'follow_ups' AND status = 'todo')
    """
MISSING_OF_PGQUEUER = """
    SELECT (SELECT count(*) FROM inbox)
        - (SELECT count(*) FROM pgqueuer WHERE entrypoint = 'follow_ups' AND status = 'queued')
    """
MISSING_OF_DBOS = """
    SELECT (SELECT count(*) FROM inbox)
        - (SELECT count(*) FROM dbos.workflow_status WHERE queue_name = 'follow_ups' AND status = 'ENQUEUED')
    """


class Contender(Value):
    """`module` fills the queue (and, of a peer, works); `batch` is Bursar's messages in a transaction, and how many at
    once. A limit does not do the whole job; one without a queue cannot be paced. `missing` is asked in its database.
    A quick one is given many times the events, and takes several turns of a round. The clock of who takes from
    `queues`, the broker's, starts with the first delivery; of the others with the first commit. Who `tells_itself` has
    a clock of its own.
    """

    name: str
    title: str
    module: str
    is_limit: bool = False
    batch: tuple[int, int] | None = None
    fills_as: str | None = None
    tells_itself: bool = False
    missing: str | None = None
    is_quick: bool = False
    queues: tuple[str, ...] = ()

    @property
    def is_peer(self) -> bool:
        """Others' work, of which the best is what Bursar is compared with."""
        return not self.is_limit and self.batch is None

    def work(self, addresses: Addresses, events: Path, count: int) -> tuple[list[str], dict[str, str]]:
        """Command and environment of its worker."""
        environment = _environment(addresses) | {"BENCH_EVENTS": str(events), "BENCH_EXPECTED": str(count)}
        if self.batch:
            return [sys.executable, "-m", "bursar.service.cli", "worker"], _bursar(environment, self.batch)
        return self._command(self.module, "work"), environment

    def queueing(
        self, action: str, addresses: Addresses, events: Path, *more: str
    ) -> tuple[list[str], dict[str, str]] | None:
        """Command and environment that fill or pace; None for one without a queue."""
        if self.is_limit and not self.fills_as:
            return None
        command = self._command(self.fills_as or self.module, action)
        return [*command, "--events", str(events), *more], _environment(addresses)

    def _command(self, module: str, action: str) -> list[str]:
        python = sys.executable if module == "bursar_lanes" else str(PEERS_PYTHON)
        return [python, "-m", "bench.peers", module, action]


CONTENDERS = (
    Contender(BURSAR, "Bursar", "bursar_lanes", batch=(MAX_ITEMS, BATCHES_AT_ONCE), missing=MISSING_OF_BURSAR,
              is_quick=True, queues=PARTITION_QUEUES),
    Contender(PER_MESSAGE, "its handlers, a transaction per message", "bursar_lanes", batch=(1, 8),
              missing=MISSING_OF_BURSAR, queues=PARTITION_QUEUES),
    Contender("by_hand", "aio-pika + asyncpg by hand", "by_hand", missing=MISSING_STEPS, queues=(BY_HAND,)),
    Contender("celery", "Celery", "celery_tasks", queues=(CELERY,)),
    Contender("procrastinate", "Procrastinate", "procrastinate_jobs", missing=MISSING_OF_PROCRASTINATE),
    Contender("pgqueuer", "pgqueuer", "pgqueuer_jobs", missing=MISSING_OF_PGQUEUER),
    Contender("dbos", "DBOS", "dbos_workflows", missing=MISSING_OF_DBOS),
    Contender(DRAIN, "limit: drain the queue, do nothing", "drain", is_limit=True, fills_as="bursar_lanes",
              tells_itself=True, is_quick=True),
    Contender("sql_batches", "limit: the SQL in batches, no broker", "sql_batches", is_limit=True,
              missing=MISSING_STEPS, is_quick=True),
)  # fmt: skip


def turns(chosen: Sequence[Contender]) -> Iterator[Contender]:
    """One round: the quick ones again and again, between them the others."""
    quick, others = [one for one in chosen if one.is_quick], [one for one in chosen if not one.is_quick]
    number = TURNS if quick else 1
    for turn in range(number):
        yield from quick
        yield from others[turn::number]


def web_environment(addresses: Addresses) -> dict[str, str]:
    """The environment of `bursar web`, on a port of its own choice."""
    return _bursar(
        _environment(addresses) | {"BURSAR_WEB_PORT": "0", "BURSAR_LOG_LEVEL": "info"}, (MAX_ITEMS, BATCHES_AT_ONCE)
    )


def _environment(addresses: Addresses) -> dict[str, str]:
    servers = {"DATABASE_URL": addresses.database_url, "AMQP_URL": addresses.amqp_url}
    return {**os.environ, **servers, "PYTHONPATH": str(CHECKOUT)}


def _bursar(environment: Mapping[str, str], batch: tuple[int, int]) -> dict[str, str]:
    own = {
        "BURSAR_MAX_BATCH": str(batch[0]),
        "BURSAR_BATCHES_AT_ONCE": str(batch[1]),
        "BURSAR_HEALTH_PORT": "0",
        "BURSAR_LOG_LEVEL": "warning",
        "STRIPE_KILOCLAW_COMMIT_PRICE_ID": PRICE_ID,
        "STRIPE_API_BASE": NOBODY,
        "STRIPE_REQUESTS_PER_SECOND": "1",
    }
    set_already = own | dict(environment)
    return {**development_settings(set_already, {}), **set_already}
