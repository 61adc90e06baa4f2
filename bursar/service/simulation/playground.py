"""Where simulations are played: in databases of their own, on the server of DATABASE_URL, else on a private one."""

import asyncio
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from bursar.billing.errors import BursarError
from bursar.db.connections import Connection
from bursar.db.migrate import migrate
from bursar.service.servers import running_servers

PREFIX = "bursar_simulate_"


class MayNotPlay(BursarError):
    """The simulation cannot make databases of its own, and takes nobody else's."""


@contextmanager
def playground(number: int) -> Iterator[Sequence[str]]:
    """The addresses of so many empty databases, dropped in the end. Blocking: enter it before the event loop.

    Raises `MayNotPlay`, `ServersUnavailable`.
    """
    with (
        running_servers("simulate", durable=False, with_rabbitmq=False) as servers,
        databases(servers.database_url, number) as addresses,
    ):
        yield addresses


@contextmanager
def databases(server_url: str, number: int) -> Iterator[Sequence[str]]:
    """Likewise, on the server of that database."""
    run = f"{PREFIX}{secrets.token_hex(4)}"
    names = [f"{run}_{worker}" for worker in range(1, number + 1)]
    try:
        yield asyncio.run(_make(server_url, names))
    finally:
        asyncio.run(_drop(server_url, names))


async def _make(server_url: str, names: Sequence[str]) -> list[str]:
    """The first is migrated, the others are copies of it."""
    first, *others = names
    addresses = [urlunsplit(urlsplit(server_url)._replace(path=f"/{name}")) for name in names]
    connection = await asyncpg.connect(server_url)
    try:
        # A name cannot be a parameter; these are ours.
        await connection.execute(f'CREATE DATABASE "{first}"')
        await migrate(addresses[0])
        await _prepare(addresses[0])
        for name in others:
            await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{first}"')
    except asyncpg.InsufficientPrivilegeError as error:
        message = "The user of DATABASE_URL may not create databases: the simulation plays in databases of its own."
        raise MayNotPlay(message) from error
    finally:
        await connection.close()
    return addresses


async def _drop(server_url: str, names: Sequence[str]) -> None:
    connection = await asyncpg.connect(server_url)
    try:
        for name in names:
            await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        await connection.close()


async def _prepare(database_url: str) -> None:
    """The ledger may be emptied here. The key of erasure is no secret, and nothing goes on in the background: only the
    seed decides.
    """
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            """
            ALTER TABLE credit_transactions DISABLE TRIGGER credits_entries_are_kept;
            ALTER TABLE credit_accounts DISABLE TRIGGER credits_accounts_are_kept;
            UPDATE erasure_key SET key = decode(repeat('00', 32), 'hex');
            DO $$
            DECLARE name text;
            BEGIN
                FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
                    EXECUTE format('ALTER TABLE %I SET (autovacuum_enabled = off)', name);
                END LOOP;
            END $$
            """
        )
    finally:
        await connection.close()


async def empty(connection: Connection) -> None:
    """No rows but those that a migration made, and numbers from 1 again: as if no seed had been played before.

    Rows are deleted, those that refer to others first: TRUNCATE makes files anew, and every plan with them. Only the
    ledger, of which nothing may be deleted, is truncated.
    """
    await connection.execute(
        """
        DO $$
        DECLARE name text;
        BEGIN
            IF EXISTS (SELECT FROM credit_accounts) THEN
                TRUNCATE credit_transactions, credit_accounts;
            END IF;
            FOR name IN
                SELECT relation.relname FROM pg_class AS relation
                WHERE relation.relkind = 'r' AND relation.relnamespace = 'public'::regnamespace
                    AND relation.relname NOT IN ('erasure_key', 'credit_transactions', 'credit_accounts')
                    AND relation.relname NOT LIKE '%pogo%' AND pg_relation_size(relation.oid) > 0
                ORDER BY EXISTS (SELECT FROM pg_constraint WHERE confrelid = relation.oid),
                    NOT EXISTS (SELECT FROM pg_constraint WHERE contype = 'f' AND conrelid = relation.oid)
            LOOP
                EXECUTE format('DELETE FROM %I', name);
            END LOOP;
            PERFORM setval(format('%I', sequencename), 1, false) FROM pg_sequences
            WHERE schemaname = 'public' AND last_value IS NOT NULL;
        END $$
        """
    )
