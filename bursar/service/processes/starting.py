"""What a process needs before it begins: a database that answers and is migrated, and a broker that answers."""

from collections.abc import Awaitable, Callable

import aio_pika
import aiormq.exceptions
import asyncpg
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_delay, wait_random_exponential

from bursar.billing.errors import BursarError
from bursar.db.connections import Pool
from bursar.db.migrate import unapplied

log = structlog.get_logger()

WAIT_SECONDS = 60.0
CONNECT_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 5.0

# Waiting cannot help: the address is wrong.
DATABASE_REFUSALS = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)
BROKER_REFUSALS = (aiormq.exceptions.AuthenticationError, aiormq.exceptions.ProbableAuthenticationError)
DATABASE_TROUBLE = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
BROKER_TROUBLE = (OSError, TimeoutError, aiormq.exceptions.AMQPError)


class StartError(BursarError):
    """The process cannot start. The message is one sentence that says what to do."""


async def wait_for_database(database_url: str, wait_seconds: float = WAIT_SECONDS) -> None:
    """Return once Postgres answers. Raises `StartError` after 60 s, or at once when it refuses us."""

    async def knock() -> None:
        connection = await asyncpg.connect(database_url, timeout=CONNECT_SECONDS)
        await connection.close()

    try:
        await _try_for(wait_seconds, "database", knock, DATABASE_TROUBLE, DATABASE_REFUSALS)
    except DATABASE_REFUSALS as error:
        raise StartError(f"DATABASE_URL: PostgreSQL refused the connection ({type(error).__name__}).") from None
    except DATABASE_TROUBLE as error:
        raise StartError(_silent("DATABASE_URL: PostgreSQL", wait_seconds, error)) from None


async def wait_for_broker(amqp_url: str, wait_seconds: float = WAIT_SECONDS) -> None:
    """Return once RabbitMQ answers. Raises `StartError` after 60 s, or at once when it refuses us."""

    async def knock() -> None:
        connection = await aio_pika.connect(amqp_url, timeout=CONNECT_SECONDS)
        await connection.close()

    try:
        await _try_for(wait_seconds, "broker", knock, BROKER_TROUBLE, BROKER_REFUSALS)
    except BROKER_REFUSALS as error:
        raise StartError(f"AMQP_URL: RabbitMQ refused the connection ({type(error).__name__}).") from None
    except BROKER_TROUBLE as error:
        raise StartError(_silent("AMQP_URL: RabbitMQ", wait_seconds, error)) from None


async def require_migrated(pool: Pool) -> None:
    """Raises `StartError` when the database lacks a migration of this release."""
    async with pool.acquire() as connection:
        missing = await unapplied(connection)
    if missing:
        raise StartError(f"The database lacks {len(missing)} of this release's migrations: run `bursar migrate` first.")


async def _try_for(
    seconds: float,
    server: str,
    knock: Callable[[], Awaitable[None]],
    trouble: tuple[type[Exception], ...],
    refusals: tuple[type[Exception], ...],
) -> None:
    def report(attempt: RetryCallState) -> None:
        error = attempt.outcome.exception() if attempt.outcome else None
        log.warning("server does not answer yet", server=server, error=type(error).__name__)

    retrying = AsyncRetrying(
        retry=retry_if_exception(lambda error: isinstance(error, trouble) and not isinstance(error, refusals)),
        stop=stop_after_delay(seconds),
        wait=wait_random_exponential(multiplier=0.2, max=LONGEST_PAUSE_SECONDS),
        before_sleep=report,
        reraise=True,
    )
    await retrying(knock)


def _silent(server: str, seconds: float, error: Exception) -> str:
    return f"{server} did not answer within {seconds:.0f} s ({type(error).__name__})."
