"""Earlybirds, billing that begins later, and cards that do not pay."""

from datetime import UTC, datetime, timedelta

import pytest

from bursar.billing.calendar import add_months
from bursar.service.stripe_stand_in.checkout import CardDeclined
from bursar.service.stripe_stand_in.world import Card
from tests.stories.conftest import BEGINNING
from tests.stories.test_checkout import MINUTE, URLS, subscribed
from tests.stories.world import World, a_world

EARLYBIRD_ENDS_AT = datetime(2026, 9, 26, tzinfo=UTC)


async def test_kc_76_an_earlybird_is_warned_twice_and_loses_access_only(database_url: str, amqp_url: str) -> None:
    async with a_world(database_url, amqp_url, EARLYBIRD_ENDS_AT - timedelta(days=40)) as world:
        await world.product.put_user("ada", None)
        assert (await world.command("ada", "earlybird", {"payment_id": "pi_1"}))[0] == 200
        await world.product.provision("ada", "i-ada")
        assert (await world.get("ada", "status"))["banner"] == "earlybird_active"
        for days in (13, 12, 1):
            await world.at(EARLYBIRD_ENDS_AT - timedelta(days=days))
        assert world.mails("ada") == ["claw_earlybird_14d", "claw_earlybird_1d"]
        assert (await world.get("ada", "access"))["http_status"] == 200

        await world.at(EARLYBIRD_ENDS_AT + MINUTE)
        await world.at(EARLYBIRD_ENDS_AT + timedelta(days=30))
        status = await world.get("ada", "status")
        assert (status["hasAccess"], status["lockReason"]) == (False, "earlybird_expired")
        assert (world.instance("i-ada"), len(world.mails("ada"))) == ("running", 2)
        assert (await world.post("ada", "trial"))[1]["code"] == "trial_not_eligible"

        await subscribed(world, "ada", "standard")
        assert (await world.get("ada", "access"))["accessReason"] == "subscription"


async def test_kc_21_kc_40_billing_that_begins_later(database_url: str, amqp_url: str) -> None:
    begins_at = BEGINNING + timedelta(days=20)
    async with a_world(database_url, amqp_url, BEGINNING, stripe_kiloclaw_billing_start=begins_at.isoformat()) as world:
        await world.product.put_user("bea", None)
        await world.product.provision("bea", "i-bea")
        subscription_id = await subscribed(world, "bea", "commit")
        await world.watch.wait_until_settled()
        row = await world.row("bea")
        assert (row["plan"], row["status"], row["scheduled_plan"]) == ("commit", "active", "standard")
        assert row["commit_ends_at"] == add_months(begins_at, 6)
        assert world.stripe.subscription(subscription_id)["status"] == "trialing"

        await world.at(begins_at + timedelta(hours=2))
        await world.watch.wait_until_settled()
        assert world.stripe.subscription(subscription_id)["status"] == "active"
        assert (await world.row("bea"))["commit_ends_at"] == add_months(begins_at, 6)
        await world.at(add_months(begins_at, 6) + timedelta(hours=2))
        await world.watch.wait_until_settled()
        paid = [invoice["amount_paid"] for invoice in world.stripe.all("invoice", status="paid")]
        assert ((await world.row("bea"))["plan"], paid) == ("standard", [0, 5_400, 2_500])


async def test_kc_30_a_card_that_is_declined_leaves_the_trial_alone(world: World) -> None:
    await world.product.put_user("cam", None)
    await world.product.provision("cam", "i-cam")
    _, answer = await world.command("cam", "checkout", {"plan": "standard", **URLS})
    with pytest.raises(CardDeclined):
        await world.stripe.customer_pays(answer["session_id"], Card.DECLINED)
    await world.hear_stripe()
    row = await world.row("cam")
    assert (row["status"], row["plan"], row["stripe_subscription_id"]) == ("trialing", "trial", None)
    await world.at(BEGINNING + timedelta(days=30, minutes=1))
    assert (world.instance("i-cam"), world.mails("cam")) == ("stopped", ["claw_suspended_trial"])

    await subscribed(world, "cam", "standard")
    await world.watch.wait_until_settled()
    assert ((await world.row("cam"))["suspended_at"], world.instance("i-cam")) == (None, "running")
