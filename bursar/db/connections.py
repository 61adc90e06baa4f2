"""Connections to Postgres: a bounded pool whose sessions carry the time-outs that fence a zombie (MS-4)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, TypeAlias

import asyncpg
import orjson
from msgspec.structs import asdict

from bursar.billing.values import Value

LOCK_TIMEOUT = timedelta(seconds=5)  # longer than a zombie may hold one; then the account is called busy
STATEMENT_TIMEOUT = "30s"
IDLE_IN_TRANSACTION_TIMEOUT = "3s"  # bounds how long a stopped worker blocks its successor
CONNECT_TIMEOUT_SECONDS = 10.0
COMMAND_TIMEOUT_SECONDS = 60.0
# Of a probe, beside 1 of a scanned page. At the default of 4 a plan made while a table is small, and kept, scans it.
RANDOM_PAGE_COST = "1.1"

Connection: TypeAlias = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
Pool: TypeAlias = asyncpg.Pool


async def open_pool(database_url: str, *, max_size: int, name: str, lock_timeout: timedelta = LOCK_TIMEOUT) -> Pool:
    """A pool of at most `max_size` connections, named in `pg_stat_activity`."""
    return await asyncpg.create_pool(
        database_url,
        min_size=1,
        max_size=max_size,
        timeout=CONNECT_TIMEOUT_SECONDS,
        command_timeout=COMMAND_TIMEOUT_SECONDS,
        init=_prepare,
        reset=_as_it_is,
        server_settings=_settings(name, lock_timeout),
    )


async def open_connection(database_url: str, *, name: str, **settings: str) -> asyncpg.Connection:
    """One connection with the settings of a pool's and further ones. The server alone bounds how long it answers."""
    connection = await asyncpg.connect(
        database_url, timeout=CONNECT_TIMEOUT_SECONDS, server_settings=_settings(name, LOCK_TIMEOUT) | settings
    )
    await _prepare(connection)
    return connection


def _settings(name: str, lock_timeout: timedelta) -> dict[str, str]:
    return {
        "application_name": name,
        "timezone": "UTC",
        "lock_timeout": f"{lock_timeout // timedelta(milliseconds=1)}ms",
        "statement_timeout": STATEMENT_TIMEOUT,
        "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_TIMEOUT,
        "random_page_cost": RANDOM_PAGE_COST,
    }


@asynccontextmanager
async def rolled_back(connection: Connection) -> AsyncIterator[None]:
    """A transaction whose work is undone at its end: transactions inside it are savepoints."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


def dumps(value: Any) -> str:  # noqa: ANN401 - anything that JSON can hold
    """JSON text for a `jsonb` parameter: values, instants and UUIDs included."""
    return orjson.dumps(value, default=_plain).decode()


def _plain(value: Any) -> Any:  # noqa: ANN401 - what orjson does not know
    return asdict(value) if isinstance(value, Value) else str(value)


async def _prepare(connection: Connection) -> None:
    await connection.set_type_codec("jsonb", encoder=dumps, decoder=orjson.loads, schema="pg_catalog")


async def _as_it_is(connection: Connection) -> None:
    """Nobody changes a session of the pool, and asyncpg rolls back what is open: another round trip undid nothing."""
