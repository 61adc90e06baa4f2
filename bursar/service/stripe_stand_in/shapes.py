"""Blank objects as the API version shapes them: those of the recorded lives, and those that no recording has."""

import json
from functools import cache
from pathlib import Path

from bursar.service.demo import stripe_shapes
from bursar.service.demo.lives import JsonObject

MISRECORDED = frozenset({"radar_options"})  # the recordings say null, which Stripe's description does not allow
UNRECORDED = Path(__file__).with_name("shapes.json")


def blank(kind: str, /, **fields: object) -> JsonObject:
    """A fresh object of this kind; `?` and -1 stand where the caller fills in."""
    known = _unrecorded().get(kind)
    if known is None:
        made = stripe_shapes.skeleton(kind, **fields)
        return {name: value for name, value in made.items() if name not in MISRECORDED}
    return {**stripe_shapes.copied(known), **fields}


@cache
def _unrecorded() -> dict[str, JsonObject]:
    shapes: dict[str, JsonObject] = json.loads(UNRECORDED.read_text(encoding="utf-8"))
    return shapes
