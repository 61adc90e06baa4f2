"""The load and the course of `make chaos` follow from the seed."""

from collections import Counter
from itertools import islice
from random import Random

import pytest

from bursar.service.chaos.disturbances import KILLS, RESTARTS, STOPS_AND_CUTS, Kinds, drawn
from bursar.service.chaos.load import chaos_load, delivery_order

LOAD = chaos_load(users=20, events=500, seed=5)


def test_it_has_as_many_different_events_as_asked_for() -> None:
    assert len({event["id"] for event in LOAD.events}) == len(LOAD.events) == 500
    types = Counter(event["type"] for event in LOAD.events)
    assert types["payment_intent.succeeded"] == types["charge.refunded"] == len(LOAD.payments) == 50


def test_the_same_seed_gives_the_same_load_in_the_same_order() -> None:
    again = chaos_load(users=20, events=500, seed=5)
    assert again.events == LOAD.events
    assert delivery_order(again.events, seed=5) == delivery_order(LOAD.events, seed=5)
    assert delivery_order(LOAD.events, seed=6) != delivery_order(LOAD.events, seed=5)


def test_every_event_is_delivered_and_a_tenth_of_them_twice() -> None:
    times = Counter(event["id"] for event in delivery_order(LOAD.events, seed=5))
    assert Counter(times.values()) == {1: 450, 2: 50}


def test_events_come_out_of_order() -> None:
    created = [event["created"] for event in delivery_order(LOAD.events, seed=5)]
    assert created != sorted(created)


@pytest.mark.parametrize("kinds", [KILLS, STOPS_AND_CUTS, RESTARTS], ids=lambda kinds: kinds.name)
def test_every_kind_takes_its_turn_before_one_comes_again(kinds: Kinds) -> None:
    number = len(kinds.disturbances)
    course = list(islice(drawn(kinds, Random(1)), 3 * number))
    for begin in range(0, 3 * number, number):
        turn = [disturbance.kind for disturbance, _ in course[begin : begin + number]]
        assert sorted(turn) == sorted(disturbance.kind for disturbance in kinds.disturbances)
    assert course == list(islice(drawn(kinds, Random(1)), 3 * number))


def test_too_few_events_for_the_users_are_refused() -> None:
    with pytest.raises(ValueError, match="a user takes two events"):
        chaos_load(users=40, events=10, seed=1)
