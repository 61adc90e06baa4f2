"""The gateway to Stripe: what steps and commands ask of it, at the urgency of whoever asks."""

from collections.abc import Mapping, Sequence
from copy import copy
from datetime import datetime
from typing import Any, Self

from stripe import HTTPClient

from bursar.billing.errors import CallRefused
from bursar.billing.stripe.calls import VIEWS, Call, Method
from bursar.billing.stripe.objects import StripeInvoice, StripeSubscription
from bursar.service.gateways.stripe.budget import STRIPE_ALLOWS_PER_SECOND, Priority, RateBudget
from bursar.service.gateways.stripe.calls import LISTS, already_so, sdk_methods
from bursar.service.gateways.stripe.errors import MISSING
from bursar.service.gateways.stripe.pages import (
    MAX_EVENT_TYPES,
    PAGE_SIZE,
    EventsPage,
    SubscriptionsPage,
    events_page,
    read_all,
    seen,
    subscriptions_page,
)
from bursar.service.gateways.stripe.requests import TIMEOUT_SECONDS, Json, StripeRequests
from bursar.service.observability.metrics import Metrics


class StripeGateway:
    """Asks Stripe, and retries nothing: steps do. Whoever opens it closes it, and with it all that `at` gave out.

    `http` is the SDK's way to Stripe; HTTP over the network without it.
    """

    def __init__(
        self,
        secret_key: str,
        *,
        api_base: str,
        timeout_seconds: float = TIMEOUT_SECONDS,
        budget: RateBudget | None = None,
        metrics: Metrics | None = None,
        http: HTTPClient | None = None,
    ) -> None:
        budget = budget or RateBudget(STRIPE_ALLOWS_PER_SECOND)
        self._requests = StripeRequests(secret_key, api_base, timeout_seconds, budget, metrics or Metrics(), http)
        self._sdk_methods = sdk_methods(self._requests.v1)
        self._already_so = already_so(self._requests.v1)
        self._priority = Priority.READ

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._requests.close()

    def at(self, priority: Priority) -> Self:
        """The same gateway, budget and connections, for calls of that urgency (MS-11)."""
        view = copy(self)
        view._priority = priority  # noqa: SLF001 - our own copy
        return view

    async def call(self, call: Call, idempotency_key: str) -> Mapping[str, Any]:
        """Make one call of an operation; answers with our view of what Stripe said, as JSON (`VIEWS`).

        Lists are read whole, whatever `limit` says; more than 1,000 objects are `Permanent`. What ends an object that
        has already ended counts as done (KC-46). Raises `CallRefused` where Stripe says no; `Retryable` for the same
        call with the same key, `KeySpent` for a new one after a look (MS-11), `Permanent`.
        """
        if call.method in LISTS:
            raw: Json = {"data": await self._all(call.method, call.params)}
        elif call.changes_stripe:
            raw = await self._changed(call, idempotency_key)
        else:
            raw = await self._ask(call.method, call.params, target=call.target)
        return seen(VIEWS[call.method], raw).model_dump(mode="json")

    async def list_subscriptions(self, customer_id: str) -> list[StripeSubscription]:
        """All subscriptions of a customer, ended ones included; none for a customer Stripe does not know.

        Raises `Retryable` or `Permanent`; a list longer than 1,000 is `Permanent`, never cut short.
        """
        try:
            found = await self._all(Method.LIST_SUBSCRIPTIONS, {"customer": customer_id, "status": "all"})
        except CallRefused as refusal:
            if refusal.code != MISSING:
                raise
            return []
        return [seen(StripeSubscription, raw) for raw in found]

    async def retrieve_subscription(self, subscription_id: str) -> StripeSubscription | None:
        """Read the subscription as it stands; None when Stripe does not know it. Raises `Retryable` or `Permanent`."""
        try:
            raw = await self._ask(Method.RETRIEVE_SUBSCRIPTION, {}, target=subscription_id)
        except CallRefused as refusal:
            if refusal.code != MISSING:
                raise
            return None
        return seen(StripeSubscription, raw)

    async def newest_paid_invoice(self, subscription_id: str) -> StripeInvoice | None:
        """The newest invoice of the subscription that is paid, if any. Raises `Retryable` or `Permanent`."""
        params = {"subscription": subscription_id, "status": "paid", "limit": 1}
        found = await self._ask(Method.LIST_INVOICES, params)
        return next((seen(StripeInvoice, raw) for raw in found["data"]), None)

    async def subscriptions_page(self, *, starting_after: str | None) -> SubscriptionsPage:
        """100 subscriptions of all customers, ended ones included, newest first. Raises `Retryable` or `Permanent`."""
        return subscriptions_page(await self._page(Method.LIST_SUBSCRIPTIONS, {"status": "all"}, starting_after))

    async def events_page(
        self, *, types: Sequence[str], created_after: datetime, starting_after: str | None
    ) -> EventsPage:
        """100 events of at most 20 types from that instant on, newest first; Stripe keeps them for 30 days.

        Raises `Retryable` or `Permanent`.
        """
        assert 0 < len(types) <= MAX_EVENT_TYPES, "Stripe's bound"
        params = {"types": list(types), "created": {"gte": int(created_after.timestamp())}, **_from(starting_after)}
        listing = self._requests.v1.events.list_async
        return events_page(await self._requests.ask("events.list", listing, self._priority, params=params))

    async def _changed(self, call: Call, idempotency_key: str) -> Json:
        """Make a call that changes something, or find that its effect is already there."""
        try:
            return await self._ask(call.method, call.params, target=call.target, idempotency_key=idempotency_key)
        except CallRefused as error:
            refusal = error
        ended = await self._ended(call, refusal)
        if ended is None:
            raise refusal
        return ended

    async def _ended(self, call: Call, refusal: CallRefused) -> Json | None:
        if call.method is Method.DELETE_INVOICE and refusal.code == MISSING:
            return {"id": call.target}
        if call.method not in self._already_so:
            return None
        wanted = self._already_so[call.method]
        try:
            found = await self._requests.ask(wanted.name, wanted.look, self._priority, target=call.target)
        except CallRefused:
            return None
        return found if found["status"] in wanted.statuses else None

    async def _all(self, method: Method, params: Json) -> list[Json]:
        return await read_all(lambda after: self._page(method, params, after))

    async def _page(self, method: Method, params: Json, after: str | None) -> Json:
        return await self._ask(method, {**params, **_from(after)})

    async def _ask(
        self, method: Method, params: Json, *, target: str | None = None, idempotency_key: str | None = None
    ) -> Json:
        return await self._requests.ask(
            method.value,
            self._sdk_methods[method],
            self._priority,
            target=target,
            params=params,
            idempotency_key=idempotency_key,
        )


def _from(starting_after: str | None) -> Json:
    return {"limit": PAGE_SIZE} | ({"starting_after": starting_after} if starting_after else {})
