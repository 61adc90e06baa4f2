"""A user leaves for good: canceled, deleted, ended at Stripe, and forgotten (KC-120, KC-121)."""

from datetime import timedelta

from bursar.billing.kiloclaw.reconciling import FindingKind
from bursar.service.checks.reconciling import Reconciling
from bursar.service.gateways.stripe import StripeGateway
from tests.billing.kiloclaw.making import CATALOGUE
from tests.db.deciding import a_decider
from tests.db.scanning import tables_holding
from tests.service.processes.running import until
from tests.stories.conftest import BEGINNING
from tests.stories.test_checkout import URLS, subscribed
from tests.stories.world import World

USER = "u-7d20"


async def test_kc_120_kc_121_a_commitment_is_canceled_and_its_user_deleted(world: World) -> None:
    await world.product.put_user(USER, None)
    await world.product.provision(USER, "i-ada")
    subscription_id = await subscribed(world, USER, "commit")
    await world.watch.wait_until_settled()
    customer_id = world.stripe.subscription(subscription_id)["customer"]
    refused = await world.client.delete(f"/v1/users/{USER}")
    assert (refused.status_code, refused.json()["code"]) == (409, "user_not_deletable")

    await world.at(BEGINNING + timedelta(days=3))
    assert (await world.command(USER, "cancel"))[0] == 200
    await world.watch.wait_until_settled()
    mails = world.mails(USER)
    assert (await world.client.delete(f"/v1/users/{USER}")).status_code == 200
    await world.watch.wait_until_settled()
    assert world.stripe.subscription(subscription_id)["status"] == "canceled"
    assert world.instance("i-ada") == "destroyed"

    await world.hear_stripe()  # `deleted`, and what else Stripe tells of them
    await world.at(BEGINNING + timedelta(days=40))
    assert await tables_holding(world.connection, USER, customer_id) == set()
    assert world.mails(USER) == mails


async def test_kc_120_a_subscription_under_a_schedule_is_ended(world: World) -> None:
    """Left under its schedule by whoever handled it in the dashboard."""
    await world.product.put_user(USER, None)
    subscription_id = await subscribed(world, USER, "commit")
    await world.watch.wait_until_settled()
    assert world.stripe.subscription(subscription_id)["schedule"]
    await world.connection.execute("UPDATE kiloclaw_subscriptions SET cancel_at_period_end = true")
    assert (await world.client.delete(f"/v1/users/{USER}")).status_code == 200
    await world.watch.wait_until_settled()
    assert world.stripe.subscription(subscription_id)["status"] == "canceled"


async def test_kc_120_pages_left_open_are_closed(world: World) -> None:
    """Whoever paid there afterwards would pay for nobody, and for ever."""
    await world.product.put_user(USER, None)
    await world.post(USER, "checkout", {"plan": "standard", **URLS})
    bought = await world.client.post(f"/v1/users/{USER}/credits/checkout", json={"amount_cents": 2000})
    assert bought.status_code == 200, bought.text
    [customer] = world.stripe.all("customer")
    assert len(world.stripe.all("checkout.session", status="open")) == 2
    assert (await world.client.delete(f"/v1/users/{USER}")).status_code == 200
    await world.watch.wait_until_settled()
    await world.hear_stripe()

    assert world.stripe.all("checkout.session", status="open") == []
    assert await tables_holding(world.connection, USER, customer["id"]) == set()


async def test_kc_120_a_subscription_that_was_paid_and_not_heard_of_is_ended(world: World) -> None:
    await world.product.put_user(USER, None)
    _, answer = await world.post(USER, "checkout", {"plan": "commit", **URLS})
    session = await world.stripe.customer_pays(answer["session_id"])
    assert await world.row(USER) == {}
    assert (await world.client.delete(f"/v1/users/{USER}")).status_code == 200
    await world.watch.wait_until_settled()

    assert world.stripe.subscription(session["subscription"])["status"] == "canceled"
    await world.hear_stripe()
    assert await tables_holding(world.connection, USER, session["customer"]) == set()


async def test_kc_121_credits_paid_for_and_heard_of_after_the_deletion_are_refunded(world: World) -> None:
    await world.product.put_user(USER, None)
    bought = await world.client.post(f"/v1/users/{USER}/credits/checkout", json={"amount_cents": 2000})
    session = await world.stripe.customer_pays(bought.json()["session_id"])
    assert (await world.client.delete(f"/v1/users/{USER}")).status_code == 200
    await world.watch.wait_until_settled()
    assert world.stripe.all("refund") == []
    await world.hear_stripe()  # of the payment, and then of the refund

    [refund] = world.stripe.all("refund")
    assert (refund["amount"], refund["payment_intent"]) == (2000, session["payment_intent"])
    assert await world.connection.fetch("SELECT FROM credit_transactions") == []
    assert await tables_holding(world.connection, USER, session["customer"]) == set()


async def test_ms_9_ms_10_what_never_came_is_found_by_reconciling(world: World, database_url: str) -> None:
    """Its webhooks are lost, all of them."""
    await world.product.put_user(USER, None)
    _, answer = await world.post(USER, "checkout", {"plan": "standard", **URLS})
    await world.stripe.customer_pays(answer["session_id"])
    assert await world.row(USER) == {}

    async def so_far(_: int) -> None:
        return

    gateway = StripeGateway("sk_test_1", api_base=world.stripe.base_url)
    async with gateway, a_decider(database_url) as decider:
        report = await Reconciling(gateway, decider, CATALOGUE, repairs=1).run(so_far)
    assert (report.counts[FindingKind.MISSING_HERE], report.repairs_asked) == (1, 1)

    async def has_row() -> bool:
        return (await world.row(USER)).get("status") == "active"

    await until(has_row)
