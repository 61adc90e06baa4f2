"""A life: everything that happened to one customer at Stripe, and what Stripe says at the end."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bursar.billing.values import Value, as_dict

JsonObject = dict[str, Any]

CHECKOUT = Path(__file__).resolve().parents[3]
RECORDED = CHECKOUT.parent / "shared" / "stripe" / "events"
PRICE_VARIABLES = {
    "standard": "STRIPE_KILOCLAW_STANDARD_PRICE_ID",
    "commit": "STRIPE_KILOCLAW_COMMIT_PRICE_ID",
}


class Life(Value):
    """`events` oldest first; `final` one entry per subscription; `prices` maps our plans to price ids."""

    name: str
    note: str
    events: tuple[JsonObject, ...]
    final: tuple[JsonObject, ...]
    prices: dict[str, str]


def recorded_lives(folder: Path = RECORDED) -> list[Life]:
    """The lives recorded in a folder (`index.json` beside one `NAME.jsonl` a life); none where it is not there."""
    index_file = folder / "index.json"
    if not index_file.is_file():
        return []
    index = json.loads(index_file.read_text(encoding="utf-8"))
    return [_recorded_life(folder, name, entry) for name, entry in sorted(index.items())]


def _recorded_life(folder: Path, name: str, entry: JsonObject) -> Life:
    lines = (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    events = tuple(json.loads(line) for line in lines if line.strip())
    return Life(name, entry["note"], events, tuple(entry["final"]), dict(entry["prices"]))


def write_lives(path: Path, lives: Iterable[Life]) -> None:
    """Write lives to a file, one a line, for a stand-in in a process of its own."""
    path.write_text("".join(json.dumps(as_dict(life)) + "\n" for life in lives), encoding="utf-8")


def read_lives(path: Path) -> list[Life]:
    """What `write_lives` wrote."""
    return [_life(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def _life(raw: JsonObject) -> Life:
    return Life(raw["name"], raw["note"], tuple(raw["events"]), tuple(raw["final"]), raw["prices"])


def all_events(lives: Iterable[Life]) -> list[JsonObject]:
    """Every event of every life."""
    return [event for life in lives for event in life.events]


def price_environment(lives: Sequence[Life]) -> dict[str, str]:
    """The price settings under which the lives' plans are known: every life has price ids of its own."""
    return {
        variable: ",".join(sorted({life.prices[plan] for life in lives if plan in life.prices}))
        for plan, variable in PRICE_VARIABLES.items()
    }


def customers_of_users(lives: Iterable[Life]) -> dict[str, str]:
    """User id to Stripe customer id, where the customer was created for one of our users."""
    return {
        customer["metadata"]["userId"]: customer["id"]
        for customer in (event["data"]["object"] for event in all_events(lives) if event["type"] == "customer.created")
        if "userId" in customer["metadata"]
    }


def last_instant(lives: Iterable[Life]) -> int:
    """When the last event happened, in Unix seconds."""
    return max(int(event["created"]) for event in all_events(lives))


def final_subscriptions(life: Life) -> dict[str, JsonObject]:
    """The full objects as Stripe shows them at the end: the last event's, overlaid with the final fields."""
    last_seen = {
        event["data"]["object"]["id"]: event["data"]["object"]
        for event in life.events
        if event["data"]["object"]["object"] == "subscription"
    }
    prices = {event["data"]["object"]["id"]: event["data"]["object"] for event in life.events if _is_price(event)}
    return {final["id"]: _overlaid(last_seen[final["id"]], final, prices) for final in life.final}


def _is_price(event: JsonObject) -> bool:
    return bool(event["type"] == "price.created")


def _overlaid(subscription: JsonObject, final: JsonObject, prices: dict[str, JsonObject]) -> JsonObject:
    items = [
        {**item, **last, "price": prices.get(last["price"], item["price"])}
        for item, last in zip(subscription["items"]["data"], final["items"], strict=True)
    ]
    return {**subscription, **final, "items": {**subscription["items"], "data": items}}
