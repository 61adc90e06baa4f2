"""Two commands of one user at once: one outcome, and a clear error for the other."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from tests.stories.test_checkout import URLS, subscribed
from tests.stories.world import World


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("cancel", {}), ("cancel", {})),
        (("cancel", {}), ("switch-plan", {"plan": "commit"})),
        (("switch-plan", {"plan": "commit"}), ("switch-plan", {"plan": "commit"})),
    ],
)
async def test_two_commands_at_once_leave_one_outcome(
    world: World, first: tuple[str, dict[str, Any]], second: tuple[str, dict[str, Any]]
) -> None:
    await world.product.put_user("ada", None)
    subscription_id = await subscribed(world, "ada", "standard")
    answers = await asyncio.gather(world.post("ada", *first), world.post("ada", *second))
    await world.hear_stripe()
    await world.watch.wait_until_settled()

    (loser,) = [answer for status, answer in answers if status != 200]
    assert loser["code"] in ("operation_in_progress", "already_canceling", "cancellation_pending", "switch_pending")
    at_stripe, row = world.stripe.subscription(subscription_id), await world.row("ada")
    assert row["cancel_at_period_end"] == at_stripe["cancel_at_period_end"]
    assert row["stripe_schedule_id"] == at_stripe["schedule"]
    assert row["cancel_at_period_end"] != (row["scheduled_plan"] is not None)
    schedules = world.stripe.all("subscription_schedule")
    assert len([one for one in schedules if one["status"] == "active"]) <= 1


async def test_kc_23_two_checkouts_at_once_leave_one_open_page(world: World) -> None:
    await world.product.put_user("bea", None)
    answers = await asyncio.gather(*(world.post("bea", "checkout", {"plan": "standard", **URLS}) for _ in range(2)))
    assert sorted(status for status, _ in answers) == [200, 409]
    assert [answer["code"] for status, answer in answers if status == 409] == ["operation_in_progress"]
    assert len(world.stripe.all("checkout.session", status="open")) == 1
    assert len(world.stripe.all("customer")) == 1

    status, again = await world.post("bea", "checkout", {"plan": "standard", **URLS})
    assert status == 200, again
    (open_session,) = world.stripe.all("checkout.session", status="open")
    assert open_session["id"] == again["session_id"]


async def test_the_same_request_twice_at_once_is_one_request(world: World) -> None:
    await world.product.put_user("cam", None)
    body = {"plan": "standard", **URLS}
    answers = await asyncio.gather(*(world.post("cam", "checkout", body, "key-1") for _ in range(2)))
    assert {status for status, _ in answers} <= {200, 409}
    status, answer = await world.post("cam", "checkout", body, "key-1")
    assert status == 200
    assert next(known for _, known in answers if "url" in known) == answer
    await world.stripe.customer_pays(answer["session_id"])
    await world.hear_stripe()
    assert (await world.row("cam"))["status"] == "active"


async def test_kc_120_kc_121_a_user_who_leaves(world: World) -> None:
    await world.product.put_user("dan", None)
    await world.product.provision("dan", "i-dan")
    subscription_id = await subscribed(world, "dan", "commit")
    refused = await world.client.delete("/v1/users/dan")
    assert (refused.status_code, refused.json()["code"]) == (409, "user_not_deletable")
    await world.command("dan", "cancel")
    assert (await world.client.delete("/v1/users/dan")).is_success
    await world.watch.wait_until_settled()
    await world.hear_stripe()
    assert world.stripe.subscription(subscription_id)["status"] == "canceled"
    assert world.instance("i-dan") == "destroyed"
    assert await world.row("dan") == {}
    await world.at(world.now + timedelta(days=60))
    assert world.mails("dan") == []
    assert await world.row("dan") == {}
