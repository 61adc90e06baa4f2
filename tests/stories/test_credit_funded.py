"""A subscription that is paid through Stripe and kept in credits: each invoice is deposited and charged at once."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from bursar.service.settings import DEFAULT_CATALOGUE
from bursar.service.stripe_stand_in.world import Card
from tests.stories.conftest import BEGINNING
from tests.stories.test_checkout import MINUTE, day, subscribed
from tests.stories.world import World, a_world

DOLLAR = 1_000_000
DRAFT = timedelta(hours=2)  # the hour of draft of a renewal's invoice has passed


@pytest.fixture
async def world(database_url: str, amqp_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """One whose catalogue sells credit-funded subscriptions."""
    shipped = DEFAULT_CATALOGUE.read_text(encoding="utf-8")
    catalogue = tmp_path / "catalogue.toml"
    catalogue.write_text(shipped.replace('funding = "direct"', 'funding = "credits"'), encoding="utf-8")
    async with a_world(database_url, amqp_url, BEGINNING, bursar_catalogue=catalogue) as world:
        yield world


async def settled(world: World, user: str) -> list[int]:
    """Dollars of each settled invoice, oldest first; the ledger is in balance, and each deposit has its charge."""
    rows = await world.connection.fetch(
        "SELECT kind, amount_microdollars, payment_id FROM credit_transactions WHERE user_id = $1 ORDER BY id", user
    )
    deposits, charges = rows[::2], rows[1::2]
    assert {row["kind"] for row in deposits} <= {"settlement_deposit"}
    assert {row["kind"] for row in charges} <= {"settlement_charge"}
    paired = [(row["payment_id"], -row["amount_microdollars"]) for row in charges]
    assert [(row["payment_id"], row["amount_microdollars"]) for row in deposits] == paired
    counters = "SELECT acquired_microdollars - used_microdollars FROM credit_accounts WHERE user_id = $1"
    assert await world.connection.fetchval(counters, user) in (None, 0)
    return [row["amount_microdollars"] // DOLLAR for row in deposits]


async def test_cr_50_cr_55_kc_100_bought_renewed_missed_and_made_good(world: World) -> None:
    await world.product.put_user("ada", None)
    await world.product.provision("ada", "i-ada")
    await world.at(BEGINNING + day(40))  # the trial is over
    assert world.instance("i-ada") == "stopped"

    subscription_id = await subscribed(world, "ada", "standard")
    await world.watch.wait_until_settled()
    row = await world.row("ada")
    shown = (row["status"], row["payment_source"], row["stripe_subscription_id"], row["suspended_at"])
    assert shown == ("active", "credits", subscription_id, None)
    assert row["credit_renewal_at"] == row["current_period_end"]
    assert await settled(world, "ada") == [25]
    status = await world.get("ada", "status")
    assert (status["hasAccess"], status["activation"], world.instance("i-ada")) == (True, None, "running")

    first_end = row["current_period_end"]
    await world.at(first_end + DRAFT)
    row = await world.row("ada")
    assert row["current_period_start"] == first_end
    assert row["credit_renewal_at"] == row["current_period_end"] > first_end
    assert await settled(world, "ada") == [25, 25]


async def test_cr_11_a_settled_invoice_that_is_refunded_and_disputed_leaves_the_balance(world: World) -> None:
    await world.product.put_user("dan", None)
    await subscribed(world, "dan", "standard")
    charge = world.stripe.all("charge", status="succeeded")[-1]
    world.stripe.refund(charge["id"], 1000)
    await world.hear_stripe()
    await world.watch.wait_until_settled()

    assert await settled(world, "dan") == [25, -10]
    world.stripe.close_dispute(world.stripe.dispute(charge["id"])["id"], won=False)
    await world.hear_stripe()
    await world.watch.wait_until_settled()

    assert await settled(world, "dan") == [25, -10, -15]
    assert (await world.get("dan", "status"))["hasAccess"]


async def test_cr_55_cr_56_kc_71_a_payment_missed_and_made_good(world: World) -> None:
    await world.product.put_user("bea", None)
    await world.product.provision("bea", "i-bea")
    await subscribed(world, "bea", "standard", Card.FAILS_LATER)
    assert await settled(world, "bea") == [25]

    paid_until = (await world.row("bea"))["current_period_end"]
    await world.at(paid_until + DRAFT)
    row = await world.row("bea")
    assert (row["status"], row["current_period_end"]) == ("past_due", paid_until)
    assert await settled(world, "bea") == [25]
    await world.at(row["past_due_since"] + day(14) + MINUTE)
    assert ((await world.row("bea"))["suspended_at"] is None, world.instance("i-bea")) == (False, "stopped")

    invoice = world.stripe.all("invoice", status="open")[-1]
    await world.stripe.customer_pays_invoice(invoice["id"])
    await world.hear_stripe()
    await world.watch.wait_until_settled()
    row = await world.row("bea")
    assert (row["status"], row["suspended_at"], row["past_due_since"]) == ("active", None, None)
    assert (row["current_period_start"], world.instance("i-bea")) == (paid_until, "running")
    assert await settled(world, "bea") == [25, 25]


async def test_cr_56_kc_45_a_commitment_that_ends_is_standard_from_its_invoice_on(world: World) -> None:
    await world.product.put_user("cis", None)
    await subscribed(world, "cis", "commit")
    row = await world.row("cis")
    assert (row["plan"], row["payment_source"], await settled(world, "cis")) == ("commit", "credits", [54])
    await world.at(row["current_period_end"] + DRAFT)
    row = await world.row("cis")
    assert (row["plan"], row["commit_ends_at"], await settled(world, "cis")) == ("standard", None, [54, 25])
