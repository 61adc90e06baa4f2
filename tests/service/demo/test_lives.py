"""Lives on disk, and the settings and users that follow from them."""

import json
from pathlib import Path

from bursar.service.demo.generator import generated_lives
from bursar.service.demo.lives import (
    customers_of_users,
    final_subscriptions,
    price_environment,
    read_lives,
    recorded_lives,
    write_lives,
)


def test_lives_survive_a_file(tmp_path: Path) -> None:
    lives = generated_lives()
    write_lives(tmp_path / "lives.jsonl", lives)
    assert read_lives(tmp_path / "lives.jsonl") == lives


def test_recorded_lives_are_read_from_their_index(tmp_path: Path) -> None:
    life = generated_lives(users=1)[0]
    index = {life.name: {"note": life.note, "final": life.final, "prices": life.prices}}
    (tmp_path / "index.json").write_text(json.dumps(index))
    (tmp_path / f"{life.name}.jsonl").write_text("".join(json.dumps(event) + "\n" for event in life.events))
    assert recorded_lives(tmp_path) == [life]


def test_there_are_no_recorded_lives_without_an_index(tmp_path: Path) -> None:
    assert recorded_lives(tmp_path) == []


def test_kc_34_every_lifes_prices_are_in_the_settings() -> None:
    lives = generated_lives(users=3)
    settings = price_environment(lives)
    assert set(settings) == {"STRIPE_KILOCLAW_STANDARD_PRICE_ID", "STRIPE_KILOCLAW_COMMIT_PRICE_ID"}
    assert set(settings["STRIPE_KILOCLAW_COMMIT_PRICE_ID"].split(",")) == {life.prices["commit"] for life in lives}


def test_only_our_users_customers_count() -> None:
    lives = generated_lives()
    foreign = next(life for life in lives if life.name.startswith("foreign"))
    assert customers_of_users([foreign]) == {}
    assert len(customers_of_users(lives)) == len(lives) - 1


def test_final_fields_outrank_the_last_event() -> None:
    life = generated_lives(users=1)[0]
    (final,) = life.final
    changed = final | {"status": "unpaid", "items": [final["items"][0] | {"current_period_end": 2, "quantity": 7}]}
    (full,) = final_subscriptions(type(life)(life.name, life.note, life.events, (changed,), life.prices)).values()
    assert full["status"] == "unpaid"
    assert (full["items"]["data"][0]["current_period_end"], full["items"]["data"][0]["quantity"]) == (2, 7)
    assert full["items"]["data"][0]["price"]["id"] == life.prices["standard"]
