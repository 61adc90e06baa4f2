"""Stripe's lists: newest first, page by page."""

from collections.abc import Callable, Sequence
from typing import Any

from bursar.service.demo.lives import JsonObject
from bursar.service.stripe_stand_in.forms import Params
from bursar.service.stripe_stand_in.refusals import missing

DEFAULT_LIMIT = 10
MAX_LIMIT = 100
BOUNDS: dict[str, Callable[[int, int], bool]] = {
    "gt": int.__gt__,
    "gte": int.__ge__,
    "lt": int.__lt__,
    "lte": int.__le__,
}


def page(path: str, oldest_first: Sequence[JsonObject], params: Params, kind: str) -> JsonObject:
    """One page by `limit` and `starting_after`, narrowed by `created`."""
    found = [thing for thing in reversed(oldest_first) if within(thing["created"], params.get("created"))]
    limit = min(max(int(params.get("limit", DEFAULT_LIMIT)), 1), MAX_LIMIT)
    begin = _after([thing["id"] for thing in found], params.get("starting_after"), kind)
    data = found[begin : begin + limit]
    return {"object": "list", "url": path, "has_more": begin + limit < len(found), "data": data}


def within(created: int, bounds: Any) -> bool:
    """Whether an instant lies within `created` or `created[gte]` and its like."""
    if bounds is None:
        return True
    if not isinstance(bounds, dict):
        return created == int(bounds)
    return all(BOUNDS[name](created, int(value)) for name, value in bounds.items())


def _after(ids: list[str], last: str | None, kind: str) -> int:
    if last is None:
        return 0
    if last not in ids:
        raise missing(kind, last, "starting_after")
    return ids.index(last) + 1
