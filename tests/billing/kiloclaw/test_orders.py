"""Beginnings of lives, up to seven events long, in any order and doubled, end in the state Stripe shows (MS-3)."""

from collections.abc import Iterator
from itertools import islice, permutations
from random import Random
from typing import Any

import pytest

from bursar.billing.values import replace
from bursar.service.demo.generator import generated_lives
from bursar.service.demo.lives import Life, recorded_lives
from tests.billing.kiloclaw.test_lives import Outside, expected, facts, our_events, user_account

ALL_ORDERS_UP_TO = 5  # 120 orders; 5,040 of seven are sampled
SAMPLED = 60
LONGEST = 7
SUBSCRIPTION = "customer.subscription."
Events = list[dict[str, Any]]


def beginning(life: Life, length: int) -> Life:
    """The life as it was when so many events of ours had happened: Stripe then showed what the last ones carry."""
    events = our_events(life)[:length]
    shown = {
        one["data"]["object"]["id"]: one["data"]["object"] for one in events if one["type"].startswith(SUBSCRIPTION)
    }
    final = [{**subscription, "items": subscription["items"]["data"]} for subscription in shown.values()]
    return replace(life, events=tuple(events), final=tuple(final))


def orders(events: Events, seed: int) -> Iterator[Events]:
    """Every order where there are few, each event twice; else some, the second delivery anywhere."""
    if len(events) <= ALL_ORDERS_UP_TO:
        yield from ([*order, *order] for order in permutations(events))
        return
    random = Random(seed)
    for _ in range(SAMPLED):
        doubled = events * 2
        random.shuffle(doubled)
        yield doubled


def shown(outside: Outside) -> tuple[Any, ...] | None:
    """What Stripe shows; the price may have changed before its schedule tells so, and then decides (KC-45)."""
    row = expected(outside)
    if row is None:
        return None
    subscription_id, status, plan, commit_ends_at, *others = row
    return (subscription_id, status, plan, commit_ends_at if plan == "commit" else None, *others)


LIVES = [*recorded_lives(), *generated_lives()]
BEGINNINGS = [
    pytest.param(beginning(life, length), id=f"{life.name}-{length}")
    for life in LIVES
    for length in range(1, min(LONGEST, len(our_events(life))) + 1)
]


@pytest.mark.parametrize("life", BEGINNINGS)
def test_ms_3_any_order_of_up_to_seven_events_doubled_ends_in_one_state(life: Life) -> None:
    outside = Outside(life)
    events = our_events(life)
    ends = {facts(outside.play(user_account(life), order)) for order in orders(events, len(events))}

    if any(event["type"] == f"{SUBSCRIPTION}created" for event in events):
        assert ends == {shown(outside)}
    else:
        assert len(ends) == 1  # nothing is bound before it is created (KC-31)


def test_few_events_are_tried_in_every_order() -> None:
    five = our_events(next(life for life in LIVES if len(our_events(life)) >= LONGEST))[:ALL_ORDERS_UP_TO]
    assert len({tuple(event["id"] for event in order) for order in orders(five, 1)}) == 120
    ids = sorted(event["id"] for event in five * 2)
    assert all(sorted(event["id"] for event in order) == ids for order in islice(orders(five, 1), 3))
