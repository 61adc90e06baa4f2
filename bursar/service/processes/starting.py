"""What a process needs before it begins: a database that answers and is migrated, and a broker that answers."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_delay, wait_random_exponential

from bursar.billing.errors import BursarError
from bursar.billing.values import Value, replace
from bursar.db.connections import Pool
from bursar.db.migrate import unapplied

log = structlog.get_logger()

WAIT_SECONDS = 60.0
CONNECT_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 5.0

# Waiting cannot help: the address is wrong.
DATABASE_REFUSALS = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)
DATABASE_TROUBLE = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
# It answered, and is gone again: whatever else it says is an answer.
DATABASE_GONE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
)

Result = TypeVar("Result")


class StartError(BursarError):
    """The process cannot start. The message is one sentence that says what to do."""


class Server(Value):
    """What is waited for: `setting` and `product` name it in the sentence of an error; `refusals` end the wait."""

    name: str
    product: str
    setting: str
    trouble: tuple[type[Exception], ...]
    refusals: tuple[type[Exception], ...]


DATABASE = Server("database", "PostgreSQL", "DATABASE_URL", DATABASE_TROUBLE, DATABASE_REFUSALS)


async def wait_for_database(database_url: str, wait_seconds: float = WAIT_SECONDS) -> None:
    """Return once Postgres answers. Raises `StartError` after 60 s, or at once when it refuses us."""

    async def knock() -> None:
        connection = await asyncpg.connect(database_url, timeout=CONNECT_SECONDS)
        await connection.close()

    await _wait_for(DATABASE, knock, wait_seconds)


async def while_it_answers(make: Callable[[], Awaitable[Result]], wait_seconds: float = WAIT_SECONDS) -> Result:
    """What `make` returns, made again where the database goes away meanwhile; `make` leaves nothing behind then.

    Raises `StartError` after 60 s.
    """
    made: list[Result] = []

    async def knock() -> None:
        made.append(await make())  # not through the retries, which await a result again that can be: a pool can

    await _wait_for(replace(DATABASE, trouble=DATABASE_GONE), knock, wait_seconds)
    return made[0]


async def wait_for_broker(amqp_url: str, wait_seconds: float = WAIT_SECONDS) -> None:
    """Return once RabbitMQ answers. Raises `StartError` after 60 s, or at once when it refuses us."""
    import aio_pika  # noqa: PLC0415 - it is much, and most commands ask the database alone
    from aiormq.exceptions import (  # noqa: PLC0415 - likewise
        AMQPError,
        AuthenticationError,
        ProbableAuthenticationError,
    )

    trouble, refusals = (OSError, TimeoutError, AMQPError), (AuthenticationError, ProbableAuthenticationError)

    async def knock() -> None:
        connection = await aio_pika.connect(amqp_url, timeout=CONNECT_SECONDS)
        await connection.close()

    await _wait_for(Server("broker", "RabbitMQ", "AMQP_URL", trouble, refusals), knock, wait_seconds)


async def require_migrated(pool: Pool) -> None:
    """Raises `StartError` when the database lacks a migration of this release."""
    async with pool.acquire() as connection:
        missing = await unapplied(connection)
    if missing:
        raise StartError(f"The database lacks {len(missing)} of this release's migrations: run `bursar migrate` first.")


async def require_unused(database_url: str, what: str) -> None:
    """Raises `StartError` for a database with accounts: `what` moves its clock and counts everything in it."""
    connection = await asyncpg.connect(database_url, timeout=CONNECT_SECONDS)
    try:
        is_in_use = await connection.fetchval("SELECT EXISTS (SELECT FROM accounts)")
    finally:
        await connection.close()
    if is_in_use:
        raise StartError(f"DATABASE_URL names a database in use; {what} needs an empty one, or none to make its own.")


async def _wait_for(server: Server, knock: Callable[[], Awaitable[None]], seconds: float) -> None:
    try:
        await _try_for(server, knock, seconds)
    except server.refusals as error:
        raise StartError(
            f"{server.setting}: {server.product} refused the connection ({type(error).__name__})."
        ) from None
    except server.trouble as error:
        silent = f"did not answer within {seconds:.0f} s ({type(error).__name__})"
        raise StartError(f"{server.setting}: {server.product} {silent}.") from None


async def _try_for(server: Server, knock: Callable[[], Awaitable[None]], seconds: float) -> None:
    def report(attempt: RetryCallState) -> None:
        error = attempt.outcome.exception() if attempt.outcome else None
        log.warning("server does not answer yet", server=server.name, error=type(error).__name__)

    def may_help(error: BaseException) -> bool:
        return isinstance(error, server.trouble) and not isinstance(error, server.refusals)

    retrying = AsyncRetrying(
        retry=retry_if_exception(may_help),
        stop=stop_after_delay(seconds),
        wait=wait_random_exponential(multiplier=0.2, max=LONGEST_PAUSE_SECONDS),
        before_sleep=report,
        reraise=True,
    )
    await retrying(knock)
