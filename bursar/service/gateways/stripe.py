"""Stripe, as far as steps read it. Errors carry Stripe's type, code and request id, never its text (MS-11, MS-14)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Self, TypeVar

import stripe
from pydantic import ValidationError

from bursar.billing.errors import BursarError, Permanent, Retryable, UnreadableMessage
from bursar.billing.stripe_objects import API_VERSION, StripeSubscription
from bursar.service.gateways.retry_after import retry_after_seconds

TIMEOUT_SECONDS = 15.0
MAX_CONNECTIONS = 16
PAGE_SIZE = 100
MAX_PAGES = 10

Argument = TypeVar("Argument")
Answer = TypeVar("Answer")


class StripeGateway:
    """Reads at Stripe with the official SDK, whose own retries are off: steps retry."""

    def __init__(self, secret_key: str, *, api_base: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        _quieten_sdk()
        self._http = stripe.HTTPXClient(timeout=timeout_seconds)
        self._client = stripe.StripeClient(
            secret_key,
            stripe_version=API_VERSION,
            base_addresses={"api": api_base.rstrip("/")},
            max_network_retries=0,
            http_client=self._http,
        )
        self._connections = asyncio.Semaphore(MAX_CONNECTIONS)
        self._timeout_seconds = timeout_seconds

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close_async()  # type: ignore[no-untyped-call]

    async def list_subscriptions(self, customer_id: str) -> list[StripeSubscription]:
        """All subscriptions of a customer, ended ones included; none for a customer Stripe does not know.

        Raises `Retryable` or `Permanent`; a list longer than 1,000 is `Permanent`, never cut short.
        """
        subscriptions: list[StripeSubscription] = []
        for _ in range(MAX_PAGES):
            page = await self._page(customer_id, after=subscriptions[-1].id if subscriptions else None)
            if page is None:
                return []
            subscriptions += [_view(raw.to_dict()) for raw in page.data]
            if not page.has_more:
                return subscriptions
            if not page.data:
                raise Permanent("Stripe announced a further page after an empty one")
        raise Permanent(f"a customer has more than {MAX_PAGES * PAGE_SIZE} subscriptions")

    async def retrieve_subscription(self, subscription_id: str) -> StripeSubscription | None:
        """Read the subscription as it stands; None when Stripe does not know it. Raises `Retryable` or `Permanent`."""
        try:
            raw = await self._ask(self._client.v1.subscriptions.retrieve_async, subscription_id)
        except _Missing:
            return None
        return _view(raw.to_dict())

    async def _page(self, customer_id: str, *, after: str | None) -> stripe.ListObject[stripe.Subscription] | None:
        params: stripe.params.SubscriptionListParams = {"customer": customer_id, "status": "all", "limit": PAGE_SIZE}
        if after is not None:
            params["starting_after"] = after
        try:
            return await self._ask(self._client.v1.subscriptions.list_async, params)
        except _Missing:
            if after is None:  # the customer; on a later page it would be the last one read
                return None
        raise Retryable("the list of subscriptions changed while it was read")

    async def _ask(self, call: Callable[[Argument], Awaitable[Answer]], argument: Argument) -> Answer:
        """Make one call within the bounds; the vendor's error is left behind, since it holds Stripe's text."""
        try:
            async with self._connections, asyncio.timeout(self._timeout_seconds):
                return await call(argument)
        except stripe.StripeError as error:
            failure = translate(error)
        except TimeoutError:
            failure = Retryable("Stripe did not answer in time")
        raise failure


class _Missing(Permanent):
    """What the call named does not exist at Stripe."""


def translate(error: stripe.StripeError) -> BursarError:
    """Our error for one of the SDK's."""
    summary = _summary(error)
    if _is_retryable(error):
        return Retryable(summary, retry_after_seconds=retry_after_seconds(_header(error.headers, "Retry-After")))
    if isinstance(error, stripe.InvalidRequestError) and error.code == "resource_missing":
        # A key of the other mode sees nothing of a customer who does exist: that must not read as "has none".
        if "similar object exists" in (error.user_message or ""):
            return Permanent(f"the Stripe key is of another mode than the object ({summary})")
        return _Missing(summary)
    return Permanent(summary)


def _is_retryable(error: stripe.StripeError) -> bool:
    if isinstance(error, stripe.RateLimitError | stripe.APIConnectionError):
        return True
    status = error.http_status or 0
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.CONFLICT


def _summary(error: stripe.StripeError) -> str:
    """Build text that is safe to log: our words, Stripe's type, code, status and request id."""
    detail = error.error
    facts = {
        "type": getattr(detail, "type", None),
        "code": error.code or getattr(detail, "code", None),
        "status": error.http_status,
        "request": error.request_id,
    }
    known = ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)
    return f"Stripe: {type(error).__name__}" + (f" ({known})" if known else "")


def _header(headers: Mapping[str, str] | None, name: str) -> str | None:
    lowered = {key.lower(): value for key, value in (headers or {}).items()}
    return lowered.get(name.lower())


def _view(raw: dict[str, Any]) -> StripeSubscription:
    try:
        return StripeSubscription.model_validate(raw)
    except ValidationError as error:
        fields = sorted({".".join(map(str, problem["loc"])) for problem in error.errors(include_input=False)})
    raise UnreadableMessage(f"Stripe's subscription {raw.get('id')} cannot be read: {', '.join(fields)}")


def _quieten_sdk() -> None:
    """Switch off the SDK's telemetry (a file in the home folder) and its log of addresses and error texts (MS-14)."""
    stripe.enable_telemetry = False
    logging.getLogger("stripe").setLevel(logging.WARNING)
