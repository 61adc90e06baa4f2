"""From a trial to a paid month, a missed payment, the suspension, and back."""

from datetime import timedelta

from bursar.service.stripe_stand_in.world import Card
from tests.stories.conftest import BEGINNING
from tests.stories.world import World

URLS = {"success_url": "https://app.example.test/ok", "cancel_url": "https://app.example.test/no"}
MINUTE = timedelta(minutes=1)


def day(number: float) -> timedelta:
    return timedelta(days=number)


async def subscribed(world: World, user: str, plan: str, card: Card = Card.GOOD) -> str:
    """The user buys the plan; the id of the subscription at Stripe."""
    status, answer = await world.command(user, "checkout", {"plan": plan, **URLS})
    assert status == 200, answer
    session = await world.stripe.customer_pays(answer["session_id"], card)
    await world.hear_stripe()
    subscription_id: str = session["subscription"]
    return subscription_id


async def test_kc_20_kc_30_kc_71_kc_90_a_payment_missed_and_made_good(world: World) -> None:
    await world.product.put_user("ada", None)
    await world.product.provision("ada", "i-ada")
    await world.at(BEGINNING + day(10))
    subscription_id = await subscribed(world, "ada", "standard", Card.FAILS_LATER)
    row = await world.row("ada")
    assert (row["status"], row["plan"], row["stripe_subscription_id"]) == ("active", "standard", subscription_id)
    assert (await world.get("ada", "status"))["banner"] == "subscribed"
    assert (await world.command("ada", "checkout", {"plan": "commit", **URLS}))[1]["code"] == "already_subscribed"

    missed_at = BEGINNING + day(10) + day(31) + timedelta(hours=2)  # 14 February, the hour of draft past
    await world.at(missed_at)
    row = await world.row("ada")
    assert row["status"] == "past_due"
    status = await world.get("ada", "status")
    assert (status["hasAccess"], status["banner"]) == (True, "subscription_past_due")

    await world.at(row["past_due_since"] + day(14))
    assert world.instance("i-ada") == "running"  # strictly more than 14 days
    await world.at(row["past_due_since"] + day(14) + MINUTE)
    suspended = await world.row("ada")
    assert suspended["suspended_at"] == row["past_due_since"] + day(14) + MINUTE
    assert (world.instance("i-ada"), world.mails("ada")) == ("stopped", ["claw_suspended_payment"])
    assert (await world.get("ada", "status"))["lockReason"] == "past_due_grace_exceeded"

    invoice = world.stripe.all("invoice", status="open")[-1]
    await world.stripe.customer_pays_invoice(invoice["id"])
    await world.hear_stripe()
    await world.watch.wait_until_settled()
    row = await world.row("ada")
    assert (row["status"], row["suspended_at"], row["past_due_since"]) == ("active", None, None)
    assert world.instance("i-ada") == "running"
    assert (await world.get("ada", "access"))["http_status"] == 200


async def test_kc_51_kc_70_kc_73_a_subscription_that_is_canceled_ends_with_its_period(world: World) -> None:
    await world.product.put_user("bea", None)
    await world.product.provision("bea", "i-bea")
    subscription_id = await subscribed(world, "bea", "standard")
    assert (await world.command("bea", "cancel"))[0] == 200
    assert (await world.get("bea", "status"))["banner"] == "subscription_canceling"
    assert (await world.command("bea", "cancel"))[1]["code"] == "already_canceling"
    assert (await world.command("bea", "reactivate"))[0] == 200
    assert not world.stripe.subscription(subscription_id)["cancel_at_period_end"]
    assert (await world.get("bea", "status"))["banner"] == "subscribed"
    assert (await world.command("bea", "cancel"))[0] == 200

    ends_at = (await world.row("bea"))["current_period_end"]
    await world.at(ends_at - MINUTE)
    assert (await world.get("bea", "access"))["http_status"] == 200
    await world.at(ends_at + MINUTE)
    row = await world.row("bea")
    assert (row["status"], row["plan"], world.instance("i-bea")) == ("canceled", "standard", "stopped")
    assert (await world.get("bea", "status"))["lockReason"] == "subscription_expired_instance_alive"
    await world.at(ends_at + day(7) + 2 * MINUTE)
    assert world.instance("i-bea") == "destroyed"
    assert world.mails("bea") == ["claw_suspended_subscription", "claw_instance_destroyed"]

    await subscribed(world, "bea", "commit")
    await world.product.provision("bea", "i-bea-2")
    assert (await world.get("bea", "status"))["banner"] == "subscribed"
