"""Opening Stripe's billing portal (KC-54): a few calls within the request, nothing of which is kept."""

import asyncio

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

from bursar.billing.errors import CallRefused, KeySpent, Retryable, describe
from bursar.billing.kiloclaw.operations.portal import portal_address
from bursar.billing.stripe.calls import VIEWS
from bursar.service.web.dependencies import WebDependencies
from bursar.service.web.problems import StripeUnavailable, refused

ROUNDS = 3  # each under new keys, after a look at what there is (MS-11)
MAX_CALLS = 3


async def open_portal(web: WebDependencies, customer_id: str, return_url: str, command_id: str) -> str:
    """The portal's address for that customer. Raises `Refused("stripe_refused")` or `StripeUnavailable`."""
    try:
        async with asyncio.timeout(web.operation_budget_seconds):
            return await _opened(web, customer_id, return_url, command_id)
    except CallRefused as refusal:
        raise refused("stripe_refused", f"Stripe refused a call ({refusal.code}).") from refusal
    except Retryable as error:
        raise StripeUnavailable(describe(error), retry_after_seconds=error.retry_after_seconds) from error
    except TimeoutError:
        raise StripeUnavailable("the billing portal could not be opened in time") from None


async def _opened(web: WebDependencies, customer_id: str, return_url: str, command_id: str) -> str:
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(KeySpent), stop=stop_after_attempt(ROUNDS), reraise=True
    ):
        with attempt:
            suffix = f":{attempt.retry_state.attempt_number}"
            return await _round(web, customer_id, return_url, command_id, suffix)
    raise AssertionError("unreachable: the last attempt raises")


async def _round(web: WebDependencies, customer_id: str, return_url: str, command_id: str, suffix: str) -> str:
    calls = portal_address(customer_id, return_url)
    call = next(calls)
    for _ in range(MAX_CALLS):
        answer = await web.stripe.call(call, (call.idempotency_key or f"portal:{command_id}:{call.name}") + suffix)
        try:
            call = calls.send(VIEWS[call.method].model_validate(answer))
        except StopIteration as stop:
            address: str = stop.value
            return address
    raise AssertionError(f"the portal takes {MAX_CALLS} calls at most")
