"""Commitments over months: the automatic schedule, switches, renewals."""

from datetime import timedelta

from bursar.billing.calendar import add_months
from tests.stories.conftest import BEGINNING
from tests.stories.test_checkout import MINUTE, subscribed
from tests.stories.world import World


async def test_kc_40_kc_45_a_commitment_becomes_standard_after_six_months(world: World) -> None:
    await world.product.put_user("ada", None)
    await world.product.provision("ada", "i-ada")
    subscription_id = await subscribed(world, "ada", "commit")
    await world.watch.wait_until_settled()
    row, half_a_year = await world.row("ada"), add_months(BEGINNING, 6)
    assert (row["plan"], row["scheduled_plan"], row["scheduled_by"]) == ("commit", "standard", "auto")
    assert row["commit_ends_at"] == half_a_year
    assert world.stripe.subscription(subscription_id)["schedule"] == row["stripe_schedule_id"]
    section = (await world.get("ada", "status"))["subscription"]
    assert section["scheduledPlan"] is None

    await world.at(half_a_year - MINUTE)
    assert (await world.row("ada"))["plan"] == "commit"
    await world.at(half_a_year + timedelta(hours=2))
    await world.watch.wait_until_settled()
    row = await world.row("ada")
    assert (row["plan"], row["status"], row["commit_ends_at"]) == ("standard", "active", None)
    assert (row["scheduled_plan"], row["scheduled_by"], row["stripe_schedule_id"]) == (None, None, None)
    assert world.stripe.subscription(subscription_id)["schedule"] is None
    assert [invoice["amount_paid"] for invoice in world.stripe.all("invoice", status="paid")] == [5_400, 2_500]
    assert (await world.command("ada", "cancel"))[0] == 200  # a released subscription can be canceled


async def test_kc_42_kc_44_a_switch_is_asked_for_taken_back_and_asked_for_again(world: World) -> None:
    await world.product.put_user("bea", None)
    await subscribed(world, "bea", "standard")
    month_ends_at = (await world.row("bea"))["current_period_end"]
    assert (await world.command("bea", "cancel-plan-switch"))[1]["code"] == "no_pending_switch"
    assert (await world.command("bea", "switch-plan", {"plan": "standard"}))[1]["code"] == "same_plan"

    assert (await world.command("bea", "switch-plan", {"plan": "commit"}))[0] == 200
    row = await world.row("bea")
    assert (row["scheduled_plan"], row["scheduled_by"], row["plan"]) == ("commit", "user", "standard")
    assert (await world.command("bea", "cancel-plan-switch"))[0] == 200
    row = await world.row("bea")
    assert (row["scheduled_plan"], row["stripe_schedule_id"]) == (None, None)

    assert (await world.command("bea", "switch-plan", {"plan": "commit"}))[0] == 200
    await world.at(month_ends_at + timedelta(hours=2))
    await world.watch.wait_until_settled()
    row = await world.row("bea")
    assert (row["plan"], row["commit_ends_at"]) == ("commit", add_months(month_ends_at, 6))
    assert (row["scheduled_plan"], row["scheduled_by"]) == ("standard", "auto")
    assert [invoice["amount_paid"] for invoice in world.stripe.all("invoice", status="paid")] == [2_500, 5_400]


async def test_kc_47_a_renewed_commitment_is_not_billed_at_its_old_end(world: World) -> None:
    await world.product.put_user("cam", None)
    await subscribed(world, "cam", "commit")
    await world.watch.wait_until_settled()
    await world.at(BEGINNING + timedelta(days=100))
    status, answer = await world.command("cam", "renew-commit")
    assert status == 200, answer
    await world.watch.wait_until_settled()
    assert (await world.row("cam"))["commit_ends_at"] == add_months(BEGINNING, 12)

    await world.at(add_months(BEGINNING, 6) + timedelta(days=1))
    assert [invoice["amount_paid"] for invoice in world.stripe.all("invoice", status="paid") if invoice["total"]] == [
        5_400,
        5_400,
    ]
    assert (await world.row("cam"))["plan"] == "commit"
    await world.at(add_months(BEGINNING, 12) + timedelta(hours=2))
    await world.watch.wait_until_settled()
    row = await world.row("cam")
    assert (row["plan"], row["status"], row["commit_ends_at"]) == ("standard", "active", None)


async def test_kc_47_kc_51_a_renewed_commitment_that_is_canceled_lasts_as_long_as_it_is_paid(world: World) -> None:
    await world.product.put_user("dee", None)
    await subscribed(world, "dee", "commit")
    await world.watch.wait_until_settled()
    assert (await world.command("dee", "renew-commit"))[0] == 200
    await world.watch.wait_until_settled()
    paid_until = add_months(BEGINNING, 12)
    status, answer = await world.command("dee", "cancel")
    assert (status, answer["ends_at"]) == (200, paid_until.isoformat())
    await world.command("dee", "reactivate")
    await world.watch.wait_until_settled()
    row = await world.row("dee")
    assert (row["commit_ends_at"], row["scheduled_plan"]) == (paid_until, "standard")
    await world.command("dee", "cancel")

    await world.at(paid_until - MINUTE)
    assert (await world.get("dee", "access"))["http_status"] == 200
    await world.at(paid_until + timedelta(hours=2))
    assert (await world.row("dee"))["status"] == "canceled"
    paid = [invoice["amount_paid"] for invoice in world.stripe.all("invoice", status="paid") if invoice["total"]]
    assert paid == [5_400, 5_400]
