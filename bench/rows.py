"""The database that every round begins with: an account, a credit-funded row and a paid first period for each user."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg

from bench.events import PERIOD_SECONDS, subscription_id, user_id
from bench.peers.queues import PARTITIONS
from bursar.billing.account import partition_of, user_key
from bursar.db.connections import Connection
from bursar.db.migrate import migrate
from bursar.service.demo.generator import BEGINS_AT

AMOUNT_MICRODOLLARS = 54_000_000


@asynccontextmanager
async def template(database_url: str, users: int) -> AsyncIterator[str]:
    """The name of a filled database to be copied, while the block runs."""
    async with _database(database_url, "CREATE DATABASE {name}") as name:
        address = address_of(database_url, name)
        await migrate(address)
        connection = await asyncpg.connect(address)
        await _fill(connection, users)
        await connection.close()
        yield name


@asynccontextmanager
async def copied(database_url: str, template_name: str) -> AsyncIterator[str]:
    """The address of a fresh copy, dropped when the block ends."""
    async with _database(database_url, f"CREATE DATABASE {{name}} TEMPLATE {template_name}") as name:
        yield address_of(database_url, name)


def address_of(database_url: str, name: str) -> str:
    """The same server, another database."""
    return database_url.rpartition("/")[0] + "/" + name


@asynccontextmanager
async def _database(database_url: str, statement: str) -> AsyncIterator[str]:
    name = f"bench_{secrets.token_hex(4)}"
    server = await asyncpg.connect(database_url)
    try:
        await server.execute(statement.format(name=name))
        # What a round left to be written must not be written during the next.
        await server.execute("CHECKPOINT")
        yield name
    finally:
        await server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await server.close()


async def _fill(connection: Connection, users: int) -> None:
    names = [user_id(number) for number in range(users)]
    keys = [user_key(name) for name in names]
    partitions = [partition_of(key, PARTITIONS) for key in keys]
    await connection.execute(
        "INSERT INTO accounts (key, partition) SELECT * FROM unnest($1::text[], $2::integer[])", keys, partitions
    )
    await connection.execute(
        """
        INSERT INTO kiloclaw_subscriptions (id, user_id, account_key, partition, version, created_at, plan, status,
            payment_source, stripe_subscription_id, current_period_start, current_period_end, credit_renewal_at,
            settled_at)
        SELECT gen_random_uuid(), user_id, 'user:' || user_id, partition, 1, $4, 'commit', 'active', 'credits',
            subscription_id, $4, $5, $5, $4
        FROM unnest($1::text[], $2::integer[], $3::text[]) AS known (user_id, partition, subscription_id)
        """,
        names,
        partitions,
        [subscription_id(number) for number in range(users)],
        BEGINS_AT,
        BEGINS_AT + timedelta(seconds=PERIOD_SECONDS),
    )
    await connection.execute(
        """
        INSERT INTO credit_transactions
            (user_id, kind, amount_microdollars, description, business_key, payment_id, cause, created_at)
        SELECT user_id, kind, sign * $2, 'First period', kind || ':' || user_id, 'first:' || user_id, 'first', $3
        FROM unnest($1::text[]) AS user_id
            CROSS JOIN (VALUES ('settlement_deposit', 1), ('settlement_charge', -1)) AS half (kind, sign)
        """,
        names,
        AMOUNT_MICRODOLLARS,
        BEGINS_AT,
    )
    await connection.execute("VACUUM ANALYZE")
