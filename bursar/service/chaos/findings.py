"""What is in the database and the broker once everything is quiet."""

from collections.abc import Mapping, Sequence

import aio_pika
from asyncpg import Connection

from bursar.billing.values import Value
from bursar.service.broker.topology import DEAD
from bursar.service.demo import figures
from bursar.service.demo.expectations import RowView
from bursar.service.demo.quiet import queues_of


class Entry(Value):
    """A ledger's entry, in microdollars."""

    user_id: str
    payment_id: str | None
    kind: str
    amount: int


class Findings(Value):
    """`doubled` are (cause, row) that changed a row more than once; `balances` what the counters say."""

    inbox: Sequence[str]
    changes: int
    doubled: Sequence[tuple[str, str]]
    torn: Sequence[str]
    rows: Mapping[str, RowView]
    entries: Sequence[Entry]
    balances: Mapping[str, int]
    parked: Mapping[str, int]
    open_steps: Mapping[str, int]
    ticks: int
    open_ticks: int


async def find(connection: Connection) -> Findings:
    """Everything the verdict asks for, in the database."""
    inbox = await connection.fetch("SELECT message_id FROM inbox WHERE message_id LIKE 'evt\\_%'")
    return Findings(
        inbox=[row["message_id"] for row in inbox],
        changes=await connection.fetchval("SELECT count(*) FROM change_log"),
        doubled=await _doubled(connection),
        torn=await _torn(connection),
        rows=await figures.subscription_rows(connection),
        entries=await _entries(connection),
        balances=await _balances(connection),
        parked=await figures.parked_messages(connection),
        open_steps=await figures.open_steps(connection),
        ticks=await connection.fetchval("SELECT count(*) FROM ticks"),
        open_ticks=await open_ticks(connection),
    )


async def _doubled(connection: Connection) -> list[tuple[str, str]]:
    rows = await connection.fetch(
        "SELECT cause, entity_id FROM change_log GROUP BY cause, entity, entity_id HAVING count(*) > 1"
    )
    return [(row["cause"], row["entity_id"]) for row in rows]


async def _torn(connection: Connection) -> list[str]:
    """Rows whose status was changed between two entries of the log: a change that was written down nowhere."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT entity_id FROM (
            SELECT entity_id, before ->> 'status' AS was,
                lag(after ->> 'status') OVER (PARTITION BY entity, entity_id ORDER BY id) AS became
            FROM change_log WHERE after ? 'status'
        ) AS changes
        WHERE became IS NOT NULL AND was IS DISTINCT FROM became
        """
    )
    return [row["entity_id"] for row in rows]


async def _entries(connection: Connection) -> list[Entry]:
    rows = await connection.fetch("SELECT user_id, payment_id, kind, amount_microdollars FROM credit_transactions")
    return [Entry(row["user_id"], row["payment_id"], row["kind"], row["amount_microdollars"]) for row in rows]


async def _balances(connection: Connection) -> dict[str, int]:
    rows = await connection.fetch(
        "SELECT user_id, acquired_microdollars - used_microdollars AS balance FROM credit_accounts"
    )
    return {row["user_id"]: row["balance"] for row in rows}


async def open_ticks(connection: Connection) -> int:
    """How many ticks are not through on every partition."""
    count: int = await connection.fetchval(
        """
        SELECT count(*) FROM ticks WHERE expanded_at IS NULL OR partitions <> (
            SELECT count(*) FROM tick_partitions AS one WHERE one.tick_id = ticks.id AND one.state <> 'running'
        )
        """
    )
    return count


async def messages_left(amqp_url: str, partitions: int) -> dict[str, int]:
    """Queues that are not empty, the one of dead letters among them."""
    left = dict[str, int]()
    async with await aio_pika.connect(amqp_url) as broker:
        channel = await broker.channel()
        for name in (DEAD, *queues_of(partitions)):
            queue = await channel.declare_queue(name, passive=True)
            if count := queue.declaration_result.message_count:
                left[name] = count
    return left
