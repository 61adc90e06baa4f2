"""Exchanges and queues, declared by whoever comes first; the number of partitions, fixed by the database (MS-2)."""

from typing import Any

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel

from bursar.billing.errors import BursarError
from bursar.db.connections import Connection

ACCOUNTS = "bursar.accounts"  # the exchange; its queues are bursar.accounts.p00, p01, ...
TICKS = "bursar.ticks"  # an exchange and a queue
DEAD = "bursar.dead"  # likewise: what the broker itself gives up

# Retries are counted in Postgres, never at the broker: 4.x would give up after 20 deliveries, 3.10 drops at -1.
DELIVERY_LIMIT = 1_000_000


class PartitionsChanged(BursarError):
    """Another number of partitions would move users between queues while their messages wait."""


def routing_key(partition: int) -> str:
    """`p00` for partition 0."""
    return f"p{partition:02d}"


def partition_queue(partition: int) -> str:
    """`bursar.accounts.p00` for partition 0."""
    return f"{ACCOUNTS}.{routing_key(partition)}"


def quorum_arguments() -> dict[str, Any]:
    """A durable queue on a quorum, which the broker never gives up on. Works on 3.10 and 4.x."""
    return {"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT}


def dead_lettering_arguments() -> dict[str, Any]:
    """Likewise, and what is dead-lettered reaches `bursar.dead` at least once."""
    return quorum_arguments() | {
        "x-dead-letter-exchange": DEAD,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def partition_arguments() -> dict[str, Any]:
    """Likewise, with one active consumer at a time: the others stand by."""
    return dead_lettering_arguments() | {"x-single-active-consumer": True}


async def declare(channel: AbstractChannel, partitions: int) -> None:
    """Declare everything; does nothing where it is there already. Dead letters first: without a place they are lost."""
    await _exchange_with_queue(channel, DEAD, ExchangeType.FANOUT, quorum_arguments())
    await _exchange_with_queue(channel, TICKS, ExchangeType.DIRECT, dead_lettering_arguments())
    exchange = await channel.declare_exchange(ACCOUNTS, ExchangeType.DIRECT, durable=True)
    for partition in range(partitions):
        queue = await channel.declare_queue(partition_queue(partition), durable=True, arguments=partition_arguments())
        await queue.bind(exchange, routing_key(partition))


async def _exchange_with_queue(
    channel: AbstractChannel, name: str, kind: ExchangeType, arguments: dict[str, Any]
) -> None:
    exchange = await channel.declare_exchange(name, kind, durable=True)
    queue = await channel.declare_queue(name, durable=True, arguments=arguments)
    await queue.bind(exchange, name)


async def stored_partitions(connection: Connection) -> int | None:
    """The number of partitions that the database was laid out with; None before its first use."""
    stored: int | None = await connection.fetchval("SELECT partitions FROM topology")
    return stored


async def check_partitions(connection: Connection, partitions: int) -> None:
    """Store the number of partitions once; PartitionsChanged when the database knows another."""
    await connection.execute(
        "INSERT INTO topology (partitions) VALUES ($1) ON CONFLICT (only_row) DO NOTHING", partitions
    )
    stored = await stored_partitions(connection)
    if stored != partitions:
        raise PartitionsChanged(
            f"BURSAR_PARTITIONS is {partitions}, but this database was laid out with {stored}: set it back to {stored}."
        )
