"""A round of a contender: events per second off a full queue, or how late it is at a steady rate."""

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles

import asyncpg

from bench.contenders import Contender
from bench.peers.contender import Addresses
from bench.processes import ProcessFailed, finished, running, usage
from bench.rows import copied
from bench.watching import PATIENCE_SECONDS, POLL_SECONDS, Begun, Sight, Watch, deliveries
from bursar.billing.values import Value
from bursar.db.connections import Connection

FOLLOW_UP_SECONDS = 10.0  # some write it after the commit
THOUSAND = 1_000
MEGABYTE = 1 << 20


class Place(Value):
    """Where the rounds are run. `servers_folder` is None where the servers are not ours to look at."""

    database_url: str
    amqp_url: str
    template: str
    folder: Path
    servers_folder: Path | None

    @property
    def log(self) -> Path:
        """What the contenders' processes complain about."""
        return self.folder / "contenders.log"


class Throughput(Value):
    """Of one round. The processor time is the worker's, and the servers' where they are ours."""

    events_per_second: float
    cpu_seconds_per_thousand: float
    servers_cpu_seconds_per_thousand: float | None
    memory_mb: float
    memory_mb_per_thousand: float | None


class Latency(Value):
    """Of one round: from the sending of an event to the commit of its effect, in milliseconds."""

    p50_ms: float
    p99_ms: float


async def throughput(contender: Contender, place: Place, events: Path, count: int) -> Throughput:
    """Fill its queue, start its worker, and watch it from the first delivery until everything is committed."""
    async with copied(place.database_url, place.template) as database_url:
        addresses = Addresses(database_url, place.amqp_url)
        await _queue(contender, place, addresses, "fill", events)
        await _analyze(database_url)
        command, environment = contender.work(addresses, events, count)
        async with (
            deliveries(place.amqp_url, contender.queues, count) as has_begun,
            running(command, environment, place.log) as worker,
        ):
            if contender.tells_itself:
                return await _told(worker)
            return await _watched(contender, worker, database_url, place, count, has_begun)


async def latency(contender: Contender, place: Place, warm_up: Path, events: Path, rate: float) -> Latency:
    """Have its worker warm, send it events at that rate, and ask the database when each was committed."""
    async with copied(place.database_url, place.template) as database_url:
        addresses = Addresses(database_url, place.amqp_url)
        await _queue(contender, place, addresses, "fill", warm_up)
        await _analyze(database_url)
        command, environment = contender.work(addresses, events, 0)
        async with running(command, environment, place.log) as worker:
            connection = await asyncpg.connect(database_url)
            warm = _lines(warm_up)
            await _until_handled(connection, worker, warm)
            sent_file = place.folder / "sent.json"
            pace = ("--rate", str(rate), "--sent", str(sent_file))
            await _queue(contender, place, addresses, "pace", events, *pace)
            await _until_handled(connection, worker, warm + _lines(events))
            sent = json.loads(sent_file.read_text(encoding="utf-8"))
            late = await _lateness(connection, sent)
            await connection.close()
    return Latency(*late)


async def _queue(
    contender: Contender, place: Place, addresses: Addresses, action: str, events: Path, *more: str
) -> None:
    queueing = contender.queueing(action, addresses, events, *more)
    if queueing:
        await finished(*queueing, place.log, PATIENCE_SECONDS)


async def _analyze(database_url: str) -> None:
    """Queues in tables were filled at once: their planner would otherwise believe them empty for a while."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("ANALYZE")
    await connection.close()


async def _told(worker: asyncio.subprocess.Process) -> Throughput:
    """By a worker without a database: it writes a line when it is through."""
    assert worker.stdout
    line = await asyncio.wait_for(worker.stdout.readline(), PATIENCE_SECONDS)
    if not line:
        raise ProcessFailed("the worker ended before it was through")
    told, memory_mb = json.loads(line), usage([worker.pid]).memory_bytes / MEGABYTE
    cpu_seconds_per_thousand = told["cpu_seconds"] / told["events"] * THOUSAND
    return Throughput(told["events"] / told["seconds"], cpu_seconds_per_thousand, None, memory_mb, None)


async def _watched(
    contender: Contender,
    worker: asyncio.subprocess.Process,
    database_url: str,
    place: Place,
    expected: int,
    has_begun: Begun | None,
) -> Throughput:
    connection = await asyncpg.connect(database_url)
    try:
        watch = Watch(worker, connection, place.servers_folder, expected)
        sights = await watch.to_the_end(has_begun)
        await _check_the_job(connection, contender, expected)
    finally:
        await connection.close()
    return throughput_of(sights, has_servers=watch.sees_servers)


async def _check_the_job(connection: Connection, contender: Contender, expected: int) -> None:
    """ProcessFailed unless each event changed its row, was logged, reached the ledger, and left a follow-up job."""
    logged, failed, entered = await connection.fetchrow(
        """
        SELECT (SELECT count(*) FROM change_log), (SELECT count(*) FROM parked_messages),
            (SELECT count(DISTINCT cause) FROM credit_transactions WHERE cause <> 'first')
        """
    )
    if min(logged, entered) < expected or failed:
        raise ProcessFailed(
            f"of {expected} events {logged} changed a row, {entered} reached the ledger, {failed} failed"
        )
    deadline = time.monotonic() + FOLLOW_UP_SECONDS
    while contender.missing and (missing := await connection.fetchval(contender.missing)):
        if time.monotonic() > deadline:
            raise ProcessFailed(f"{contender.title}: {missing} follow-up jobs are missing")
        await asyncio.sleep(POLL_SECONDS)


def throughput_of(sights: Sequence[Sight], *, has_servers: bool) -> Throughput:
    """Between the first sight and the last."""
    first, last = sights[0], sights[-1]
    handled = last.handled - first.handled
    if not handled:
        raise ProcessFailed("everything was handled at first sight: take more events")
    thousands = handled / THOUSAND
    servers = (last.servers_cpu_seconds - first.servers_cpu_seconds) / thousands if has_servers else None
    filled = next(sight for sight in sights if sight.handled)  # with what is received ahead
    grown = last.worker.memory_bytes - filled.worker.memory_bytes
    return Throughput(
        events_per_second=handled / (last.at - first.at),
        cpu_seconds_per_thousand=(last.worker.cpu_seconds - first.worker.cpu_seconds) / thousands,
        servers_cpu_seconds_per_thousand=servers,
        memory_mb=max(sight.worker.memory_bytes for sight in sights) / MEGABYTE,
        memory_mb_per_thousand=grown / MEGABYTE / max(last.handled - filled.handled, 1) * THOUSAND,
    )


async def _until_handled(connection: Connection, worker: asyncio.subprocess.Process, expected: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and worker.returncode is None:
        if await connection.fetchval("SELECT count(*) FROM inbox") >= expected:
            return
        await asyncio.sleep(POLL_SECONDS)
    raise ProcessFailed(f"{expected} events were not handled within {PATIENCE_SECONDS:.0f} s")


async def _lateness(connection: Connection, sent: dict[str, float]) -> tuple[float, float]:
    rows = await connection.fetch(
        """
        SELECT message_id, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 AS committed_at FROM inbox
        WHERE message_id = ANY($1::text[])
        """,
        list(sent),
    )
    cuts = quantiles([THOUSAND * (row["committed_at"] - sent[row["message_id"]]) for row in rows], n=100)
    return cuts[49], cuts[98]


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)
