"""Requests to Stripe with the official SDK, whose own retries are off: steps retry."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import stripe

from bursar.billing.errors import BursarError, CallRefused, KeyRefused, KeySpent, Retryable
from bursar.billing.stripe.objects import API_VERSION
from bursar.service.gateways.stripe.budget import Priority, RateBudget
from bursar.service.gateways.stripe.errors import translate
from bursar.service.observability.metrics import Metrics

TIMEOUT_SECONDS = 15.0  # of one request, and as long at most may it wait for the budget before

Json = Mapping[str, Any]
SdkMethod = Callable[..., Awaitable[Any]]


class StripeRequests:
    """Makes one request at a time: within the budget and the time-out, counted, its error translated."""

    def __init__(
        self,
        secret_key: str,
        api_base: str,
        timeout_seconds: float,
        budget: RateBudget,
        metrics: Metrics,
        http: stripe.HTTPClient | None = None,
    ) -> None:
        _quieten_sdk()
        self._http = http or stripe.HTTPXClient(timeout=timeout_seconds)
        client = stripe.StripeClient(
            secret_key,
            stripe_version=API_VERSION,
            base_addresses={"api": api_base.rstrip("/")},
            max_network_retries=0,
            http_client=self._http,
        )
        self.v1 = client.v1
        self._timeout_seconds = timeout_seconds
        self._budget = budget
        self._metrics = metrics

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close_async()  # type: ignore[no-untyped-call]

    async def ask(
        self,
        name: str,
        sdk_method: SdkMethod,
        priority: Priority,
        *,
        target: str | None = None,
        params: Json | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Stripe's answer as JSON. Raises `CallRefused`, `KeySpent`, `Retryable` or `Permanent`."""
        about = () if target is None else (target,)
        options = {"idempotency_key": idempotency_key} if idempotency_key else {}
        try:
            async with self._budget.slot(priority, self._timeout_seconds) as waited_seconds:
                self._metrics.stripe_wait_seconds.labels(priority.name.lower()).observe(waited_seconds)
                answer = await self._answer(sdk_method(*about, params=dict(params or {}), options=options), options)
        except BursarError as error:
            self._metrics.stripe_calls.labels(name, _outcome(error)).inc()
            if isinstance(error, KeyRefused):
                self._metrics.stripe_key_refused.inc()
            raise
        self._metrics.stripe_calls.labels(name, "done").inc()
        return answer

    async def _answer(self, request: Awaitable[Any], options: Mapping[str, str]) -> Json:
        """Wait for one answer; the vendor's error is left behind, since it holds Stripe's text."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                answer: Json = (await request).last_response.data
                return answer
        except stripe.StripeError as error:
            failure = translate(error, has_key=bool(options))
            self._pause(error, failure)
        except AttributeError:  # the SDK's own, over JSON that is not Stripe's, such as a proxy's {"error": "text"}
            failure = Retryable("the answer was not Stripe's")
        except TimeoutError:
            failure = Retryable("Stripe did not answer in time")
        raise failure

    def _pause(self, error: stripe.StripeError, failure: BursarError) -> None:
        if isinstance(error, stripe.RateLimitError) and isinstance(failure, Retryable):
            self._budget.pause(failure.retry_after_seconds or 0)


def _outcome(error: BursarError) -> str:
    match error:
        case CallRefused():
            return "refused"
        case KeySpent():
            return "key_spent"
        case KeyRefused():
            return "key_refused"
        case Retryable():
            return "retry"
        case _:
            return "failed"


def _quieten_sdk() -> None:
    """Switch off the SDK's telemetry (a file in the home folder) and its log of addresses and error texts (MS-14)."""
    stripe.enable_telemetry = False
    logging.getLogger("stripe").setLevel(logging.WARNING)
