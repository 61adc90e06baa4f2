"""The events of the bench: paid invoices of credit-funded subscriptions, spread at random over the users.

Each makes Bursar do the whole job: the row moves to the next period and is logged, the ledger gets its entries, and the
row's schedule is to be kept, which is the follow-up job.
"""

import base64
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import orjson

from bench.peers.events import Event
from bursar.billing.account import user_key
from bursar.service.demo.generator import BEGINS_AT
from bursar.service.demo.story import Story

PRICE_ID = "price_commit"
PERIOD_SECONDS = 182 * 86_400
FIRST_PERIOD_AT = int(BEGINS_AT.timestamp())


def user_id(number: int) -> str:
    """Of the user with that number, from 0."""
    return f"load-{number:05d}"


def subscription_id(number: int) -> str:
    """Of that user's subscription at Stripe."""
    return f"sub_bench{number:019d}"


def made_events(users: int, events: int, seed: int) -> Iterator[Event]:
    """So many events, the same for the same seed, each of a user drawn at random."""
    draw = Random(seed)  # noqa: S311 - a load to be repeated, not a secret
    return events_of(draw.randrange(users) for _ in range(events))


def events_of(users: Iterable[int]) -> Iterator[Event]:
    """An event of each of these users, in this order; a user's periods follow each other."""
    periods: Counter[int] = Counter()
    envelope = _paid_invoice()
    for number, user in enumerate(users):
        periods[user] += 1
        _fill(envelope, number, user, periods[user])
        yield Event(envelope["id"], user_key(user_id(user)), orjson.dumps(envelope))


def write_events(path: Path, events: Iterator[Event]) -> None:
    """One a line, as the contenders' processes read them."""
    with path.open("wb") as file:
        for event in events:
            body = base64.b64encode(event.body).decode()
            file.write(orjson.dumps([event.id, event.account, body]) + b"\n")


def _paid_invoice() -> dict[str, Any]:
    """An event as Stripe shapes it."""
    story = Story("bench", BEGINS_AT, "bench")
    story.open_catalogue()
    story.become_customer()
    story.add_card()
    story.subscribe("commit")
    return next(event for event in story.events if event["type"] == "invoice.paid")


def _fill(envelope: dict[str, Any], number: int, user: int, period: int) -> None:
    starts_at = FIRST_PERIOD_AT + period * PERIOD_SECONDS
    envelope |= {"id": f"evt_bench{number:019d}", "created": starts_at}
    invoice = envelope["data"]["object"]
    invoice |= {"id": f"in_bench{number:020d}", "customer": f"cus_bench{user:09d}", "created": starts_at}
    metadata = {"type": "kiloclaw", "userId": user_id(user), "plan": "commit", "funding": "credits"}
    invoice["parent"]["subscription_details"] = {"metadata": metadata, "subscription": subscription_id(user)}
    line = invoice["lines"]["data"][0]
    line["period"] = {"start": starts_at, "end": starts_at + PERIOD_SECONDS}
    line["parent"]["subscription_item_details"]["subscription"] = subscription_id(user)
    line["pricing"]["price_details"]["price"] = PRICE_ID
