"""The generated lives have the shapes of the recorded ones, and end where their events say."""

import json
from pathlib import Path
from typing import Any

import pytest

from bursar.billing.stripe.objects import API_VERSION, SubscriptionEvent
from bursar.service.demo.generator import KINDS, generate_events, generated_lives
from bursar.service.demo.lives import Life, all_events, final_subscriptions, recorded_lives
from tests.service.demo.shape_tree import departures, parts_of, shape, shapes_of

GOLDEN = Path(__file__).with_name("shapes.json")
SUBSCRIPTION_EVENTS = "customer.subscription."


def _expected_shapes() -> dict[str, Any]:
    recorded = recorded_lives()
    return shapes_of(recorded) if recorded else json.loads(GOLDEN.read_text(encoding="utf-8"))


def _all_departures(lives: list[Life], shapes: dict[str, Any]) -> list[str]:
    parts = [part for event in all_events(lives) for part in parts_of(event)]
    return sorted({f"{name}{each}" for name, value in parts for each in departures(value, shapes[name])})


def test_generated_lives_have_the_recorded_shapes() -> None:
    assert _all_departures(generated_lives(users=2 * len(KINDS)), _expected_shapes()) == []


def test_a_generated_load_has_the_recorded_shapes() -> None:
    assert _all_departures(generate_events(users=4, events=60, seed=5), _expected_shapes()) == []


def test_the_stored_shapes_know_what_is_recorded() -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert _all_departures(recorded_lives(), golden) == []


def test_a_departure_from_the_shape_is_found() -> None:
    tree = shape({"id": "sub_1", "items": [{"price": "p"}]})
    assert departures({"id": 1, "items": [{"cost": "p"}]}, tree) == [
        ".id: int",
        ".items[].price: missing",
        ".items[].cost: unknown",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_the_skeleton_is_left_open(kind: str) -> None:
    text = json.dumps([life.events for life in generated_lives() if life.name.startswith(kind)])
    assert '"?"' not in text
    assert ": -1" not in text


def test_kc_36_every_event_says_the_pinned_version() -> None:
    assert {event["api_version"] for event in all_events(generated_lives())} == {API_VERSION}


def test_the_same_seed_makes_the_same_lives_and_another_does_not() -> None:
    assert generated_lives(users=13, seed=4) == generated_lives(users=13, seed=4)
    assert generated_lives(users=13, seed=4) != generated_lives(users=13, seed=5)
    assert generate_events(users=3, events=30, seed=4) == generate_events(users=3, events=30, seed=4)


def test_events_are_told_oldest_first_and_never_share_an_id() -> None:
    lives = generated_lives(users=24)
    for life in lives:
        instants = [event["created"] for event in life.events]
        assert instants == sorted(instants)
    ids = [event["id"] for event in all_events(lives)]
    assert len(ids) == len(set(ids))


def test_every_kind_ends_as_its_name_says() -> None:
    ends = {life.name.rsplit("-", 1)[0]: [final["status"] for final in life.final] for life in generated_lives()}
    assert ends["standard_unpaid"] == ["unpaid"]
    assert ends["standard_dunning_cancels"] == ends["standard_cancels_at_period_end"] == ["canceled"]
    assert ends["resubscribes"] == ["canceled", "active"]
    assert set(ends) == set(KINDS)


def test_a_load_has_as_many_users_and_events_as_asked_and_no_ties() -> None:
    lives = generate_events(users=20, events=500, seed=2)
    assert len(lives) == 20
    assert len(all_events(lives)) == 500
    for life in lives:
        instants = [event["created"] for event in life.events if event["type"].startswith(SUBSCRIPTION_EVENTS)]
        assert len(instants) == len(set(instants))


def test_a_load_too_small_for_its_users_is_refused() -> None:
    with pytest.raises(ValueError, match="two events at least"):
        generate_events(users=10, events=19, seed=1)


def test_the_final_state_is_what_the_last_event_says() -> None:
    for life in [*generated_lives(users=24), *generate_events(users=5, events=50, seed=3), *recorded_lives()]:
        told = [SubscriptionEvent.model_validate(e) for e in life.events if e["type"].startswith(SUBSCRIPTION_EVENTS)]
        last = {event.subscription.id: event.subscription for event in told}
        assert {key: one.status for key, one in last.items()} == {one["id"]: one["status"] for one in life.final}
        for key, full in final_subscriptions(life).items():
            assert full["items"]["data"][0]["current_period_end"] == last[key].items[0].current_period_end.timestamp()
