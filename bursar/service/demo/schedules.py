"""The stand-in's subscription schedules: those of the lives, and those made since, kept in memory."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bursar.billing.calendar import add_months
from bursar.service.demo import stripe_shapes as shapes
from bursar.service.demo.lives import JsonObject, Life, all_events

MAX_PARAMETERS = 500


class Schedules:
    """Made from a subscription, given phases, released, read. Who asks is checked before."""

    def __init__(self, lives: Iterable[Life], subscriptions: dict[str, JsonObject]) -> None:
        objects = (event["data"]["object"] for event in all_events(lives))
        self._known = {one["id"]: one for one in objects if one["object"] == "subscription_schedule"}
        self._subscriptions = subscriptions
        self._ids = shapes.StripeIds("schedules")

    def retrieve(self, key: str) -> JsonObject | None:
        """The schedule as it stands."""
        return self._known.get(key)

    async def create(self, request: Request) -> Response:
        """Around a subscription: its current phase only. A subscription has one at most."""
        subscription = self._subscriptions.get((await _parameters(request)).get("from_subscription", ""))
        if subscription is None or subscription["schedule"]:
            return _refused("There is no such subscription, or it has a schedule.")
        item = subscription["items"]["data"][0]
        first = shapes.phase(item["price"], item["current_period_start"], item["current_period_end"])
        made = shapes.schedule(self._ids, subscription, first, subscription["created"])
        subscription["schedule"] = made["id"]
        self._known[made["id"]] = made
        return JSONResponse(made)

    async def update(self, request: Request) -> Response:
        """New phases from the current one on, and metadata."""
        known = self._known.get(request.path_params["key"])
        if known is None or known["status"] != "active":
            return _refused("There is no such active schedule.")
        asked = await _parameters(request)
        known["metadata"] |= asked.get("metadata", {})
        if "phases" in asked:
            known["phases"] = _resolved(asked["phases"], known["current_phase"]["start_date"])
            shapes.enter_phase(known, 0)
        return JSONResponse(known)

    async def release(self, request: Request) -> Response:
        """The subscription goes on by itself."""
        known = self._known.get(request.path_params["key"])
        if known is None or known["status"] != "active":
            return _refused("There is no such active schedule.")
        self._subscriptions[known["subscription"]]["schedule"] = None
        known |= {"status": "released", "released_subscription": known["subscription"]}
        known |= {"subscription": None, "current_phase": None}
        return JSONResponse(known)


def _resolved(asked: list[JsonObject], starts_at: int) -> list[JsonObject]:
    """Each phase begins where the one before ends."""
    phases = []
    for one in asked:
        ends_at = int(one["end_date"]) if "end_date" in one else _later(starts_at, one["duration"])
        phase = shapes.phase(one["items"][0]["price"], starts_at, ends_at)
        phases.append(phase | {"metadata": one.get("metadata", {})})
        starts_at = ends_at
    return phases


def _later(starts_at: int, duration: JsonObject) -> int:
    begins = datetime.fromtimestamp(starts_at, UTC)
    return int(add_months(begins, int(duration["interval_count"])).timestamp())


async def _parameters(request: Request) -> JsonObject:
    """Stripe's form: `phases[0][items][0][price]=…` as nested objects and lists."""
    nested: JsonObject = {}
    for name, text in parse_qsl((await request.body()).decode(), max_num_fields=MAX_PARAMETERS):
        *path, last = re.findall(r"[^\[\]]+", name)
        place = nested
        for part in path:
            place = place.setdefault(part, {})
        place[last] = text
    found: JsonObject = _with_lists(nested)
    return found


def _with_lists(value: Any) -> Any:  # noqa: ANN401 - JSON
    if not isinstance(value, dict):
        return value
    if value and all(name.isdigit() for name in value):
        return [_with_lists(value[name]) for name in sorted(value, key=int)]
    return {name: _with_lists(one) for name, one in value.items()}


def _refused(message: str) -> Response:
    error = {"type": "invalid_request_error", "message": message}
    return JSONResponse({"error": error}, HTTPStatus.BAD_REQUEST)
