"""Tells when a course is over: all quiet, every tick through, and what the ticks asked for done."""

import asyncpg
from tenacity import AsyncRetrying, RetryError, retry_if_result, stop_after_delay, wait_fixed

from bursar.service.chaos.findings import open_ticks
from bursar.service.demo.product import DemoFailedError
from bursar.service.demo.quiet import quiet_watch

POLL_SECONDS = 0.1
TICKS_SECONDS = 120.0  # a tick whose message was lost is looked for once a minute


async def faults_of_ending(database_url: str, amqp_url: str) -> list[str]:
    """Wait until nothing is left to do; what is left all the same is a fault."""
    try:
        async with quiet_watch(database_url, amqp_url) as quiet:
            await quiet.wait()
            await _ticks_through(database_url)
            await quiet.wait()  # the last ticks may have asked for steps
    except DemoFailedError as error:
        return [str(error)]
    except RetryError:
        return []  # the verdict names the ticks
    return []


async def _ticks_through(database_url: str) -> None:
    retrying = AsyncRetrying(
        retry=retry_if_result(lambda count: count > 0),
        wait=wait_fixed(POLL_SECONDS),
        stop=stop_after_delay(TICKS_SECONDS),
    )
    connection = await asyncpg.connect(database_url)
    try:
        await retrying(open_ticks, connection)
    finally:
        await connection.close()
