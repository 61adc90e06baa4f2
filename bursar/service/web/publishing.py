"""Publishing within a request: confirmed in time, or the sender is told to send again (MS-1)."""

import asyncio
from collections.abc import Coroutine

from bursar.billing.errors import Retryable
from bursar.service.web.problems import BrokerUnavailable


async def confirmed(publishing: Coroutine[None, None, None], timeout_seconds: float) -> None:
    """Wait for the broker's confirmation; BrokerUnavailable without one."""
    try:
        async with asyncio.timeout(timeout_seconds):
            await publishing
    except TimeoutError:
        raise BrokerUnavailable("the broker did not confirm in time") from None
    except Retryable as error:
        raise BrokerUnavailable(str(error)) from error
