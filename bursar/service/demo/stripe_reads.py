"""A stand-in for Stripe's reads: subscriptions, customers and events of the lives in a file, as they stand at the end.
Their schedules can be changed too, since every commit subscription gets one.

The bearer comes from `STRIPE_SECRET_KEY`. It answers in the pinned API version only.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from http import HTTPStatus
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bursar.billing.stripe.objects import API_VERSION
from bursar.service.demo.lives import JsonObject, Life, all_events, final_subscriptions, read_lives
from bursar.service.demo.schedules import Schedules
from bursar.service.demo.standing_in import has_bearer, listen, port_parser, serve_until_orphaned

DEFAULT_LIMIT = 10
MAX_LIMIT = 100
ENDED = frozenset({"canceled", "incomplete_expired"})


class StripeReads:
    """Answers from the lives; only schedules can be changed through it."""

    def __init__(self, lives: Sequence[Life], secret_key: str) -> None:
        self._secret_key = secret_key
        self._subscriptions = {key: one for life in lives for key, one in final_subscriptions(life).items()}
        self._schedules = Schedules(lives, self._subscriptions)
        self._customers = _last_customers(lives)
        self._events = _newest_first(all_events(lives))

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/subscriptions", self.subscriptions, methods=["GET"]),
                Route("/v1/subscriptions/{key}", self.subscription, methods=["GET"]),
                Route("/v1/customers/{key}", self.customer, methods=["GET"]),
                Route("/v1/events", self.events, methods=["GET"]),
                Route("/v1/invoice_payments", self.invoice_payments, methods=["GET"]),
                Route("/v1/subscription_schedules", self._checked(self._schedules.create), methods=["POST"]),
                Route("/v1/subscription_schedules/{key}", self.schedule, methods=["GET"]),
                Route("/v1/subscription_schedules/{key}", self._checked(self._schedules.update), methods=["POST"]),
                Route(
                    "/v1/subscription_schedules/{key}/release",
                    self._checked(self._schedules.release),
                    methods=["POST"],
                ),
            ]
        )

    async def subscription(self, request: Request) -> Response:
        return self._refusal(request) or _one("subscription", self._subscriptions, request.path_params["key"])

    async def schedule(self, request: Request) -> Response:
        key = request.path_params["key"]
        known = self._schedules.retrieve(key)
        found = {key: known} if known else {}
        return self._refusal(request) or _one("subscription_schedule", found, key)

    async def customer(self, request: Request) -> Response:
        return self._refusal(request) or _one("customer", self._customers, request.path_params["key"])

    async def subscriptions(self, request: Request) -> Response:
        """Newest first; without `status` those that have not ended, as Stripe does."""
        asked = request.query_params
        customer_id = asked.get("customer")
        if refusal := self._refusal(request):
            return refusal
        if customer_id is not None and customer_id not in self._customers:
            return _missing("customer", customer_id, HTTPStatus.BAD_REQUEST, "customer")
        found = [
            one
            for one in self._subscriptions.values()
            if customer_id in (None, one["customer"]) and _has_status(one, asked.get("status"))
        ]
        return _page(request, _newest_first(found))

    async def events(self, request: Request) -> Response:
        """Newest first; `type`, `created[gte]` and `created[lt]` narrow them."""
        asked = request.query_params
        earliest, before = int(asked.get("created[gte]", 0)), int(asked.get("created[lt]", 1 << 40))
        found = [
            event
            for event in self._events
            if asked.get("type") in (None, event["type"]) and earliest <= event["created"] < before
        ]
        return self._refusal(request) or _page(request, found)

    async def invoice_payments(self, request: Request) -> Response:
        """None: no life pays a subscription from credits, and so none has such a payment to be found."""
        return self._refusal(request) or _page(request, [])

    def _checked(self, answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def checked(request: Request) -> Response:
            return self._refusal(request) or await answer(request)

        return checked

    def _refusal(self, request: Request) -> Response | None:
        if not has_bearer(request, self._secret_key):
            return _error(HTTPStatus.UNAUTHORIZED, {"message": "Invalid API Key provided"})
        if request.headers.get("Stripe-Version") != API_VERSION:
            return _error(HTTPStatus.BAD_REQUEST, {"message": f"Only API version {API_VERSION} is recorded here"})
        return None


def _last_customers(lives: Iterable[Life]) -> dict[str, JsonObject]:
    objects = (event["data"]["object"] for event in all_events(lives))
    return {thing["id"]: thing for thing in objects if thing["object"] == "customer"}


def _newest_first(objects: Iterable[JsonObject]) -> list[JsonObject]:
    return sorted(objects, key=lambda thing: (thing["created"], thing["id"]), reverse=True)


def _has_status(subscription: JsonObject, wanted: str | None) -> bool:
    status = subscription["status"]
    if wanted is None:
        return status not in ENDED
    if wanted == "ended":
        return status in ENDED
    return wanted in ("all", status)


def _one(kind: str, known: dict[str, JsonObject], key: str) -> Response:
    if key not in known:
        return _missing(kind, key, HTTPStatus.NOT_FOUND, "id")
    return JSONResponse(known[key])


def _page(request: Request, found: list[JsonObject]) -> Response:
    """Stripe's list object, by `limit` and `starting_after`."""
    asked = request.query_params
    limit = min(max(int(asked.get("limit", DEFAULT_LIMIT)), 1), MAX_LIMIT)
    ids = [thing["id"] for thing in found]
    after = asked.get("starting_after")
    if after is not None and after not in ids:
        return _missing("object", after, HTTPStatus.BAD_REQUEST, "starting_after")
    begin = 0 if after is None else ids.index(after) + 1
    data = found[begin : begin + limit]
    more = begin + limit < len(found)
    return JSONResponse({"object": "list", "url": request.url.path, "has_more": more, "data": data})


def _missing(kind: str, key: str, status: HTTPStatus, param: str) -> Response:
    return _error(status, {"code": "resource_missing", "param": param, "message": f"No such {kind}: '{key}'"})


def _error(status: HTTPStatus, details: JsonObject) -> Response:
    return JSONResponse({"error": {"type": "invalid_request_error", **details}}, status)


def main() -> None:
    parser = port_parser(__doc__)
    parser.add_argument("--lives", type=Path, required=True, help="a file written by write_lives")
    arguments = parser.parse_args()
    reads = StripeReads(read_lives(arguments.lives), os.environ["STRIPE_SECRET_KEY"])
    asyncio.run(serve_until_orphaned(reads.app(), listen(arguments.port)))


if __name__ == "__main__":
    main()
