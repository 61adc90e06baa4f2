"""Hosting from prepaid credits: bought on a page at Stripe, spent month by month, and what comes when they run out."""

from datetime import UTC, datetime
from typing import Any

from bursar.service.stripe_stand_in.world import Card
from tests.stories.test_checkout import MINUTE
from tests.stories.world import World

DOLLAR = 1_000_000
FEBRUARY, MARCH, APRIL, MAY = (datetime(2027, month, 4, 9, tzinfo=UTC) for month in (2, 3, 4, 5))
SUSPENDED = datetime(2027, 3, 18, 9, 2, tzinfo=UTC)  # more than 14 days past due
FAILED = "claw_credit_renewal_failed"


async def tops_up(world: World, user: str, card: Card, cents: int | None = None) -> int:
    """The user buys credits on the page, and its webhooks arrive; the balance then, in dollars."""
    answer = await world.client.post(f"/v1/users/{user}/credits/checkout", json={"amount_cents": cents})
    assert answer.status_code == 200, answer.text
    await world.stripe.customer_pays(answer.json()["session_id"], card)
    await world.hear_stripe()
    return (await credits_of(world, user))[0]


async def enrolls(world: World, user: str, card: Card) -> None:
    """50 dollars pay two months; the automatic top-up is on for what follows."""
    await world.product.put_user(user, None)
    await world.product.provision(user, f"i-{user}")
    assert await tops_up(world, user, card) == 50
    switched = await world.client.put(f"/v1/users/{user}/credits/auto-top-up", json={"enabled": True})
    assert switched.json() == {"auto_top_up": True}
    status, answer = await world.command(user, "enroll", {"plan": "standard", "instance_id": f"i-{user}"})
    assert (status, answer["balance_microdollars"]) == (200, 25 * DOLLAR), answer


async def credits_of(world: World, user: str) -> tuple[int, bool]:
    """The balance in dollars, and whether the automatic top-up is on."""
    answer = (await world.client.get(f"/v1/users/{user}/credits")).json()
    return answer["balance_microdollars"] // DOLLAR, answer["auto_top_up"]


async def entries(world: World, user: str) -> list[int]:
    """What moved, in dollars, oldest first."""
    answer = (await world.client.get(f"/v1/users/{user}/credits/transactions")).json()
    return [one["amount_microdollars"] // DOLLAR for one in answer["entries"]][::-1]


async def stands(world: World, user: str) -> tuple[Any, ...]:
    """The row's status, until when it is paid, and the instance."""
    row = await world.row(user)
    return row["status"], row["current_period_end"], world.instance(f"i-{user}")


def automatic(world: World, user: str) -> list[str]:
    """How the automatic payments of the user stand at Stripe."""
    found = [one for one in world.stripe.all("payment_intent") if "topUp" in one["metadata"]]
    return [one["status"] for one in found if one["metadata"]["userId"] == user]


async def test_cr_10_cr_22_cr_32_cr_38_cr_39_cr_40_months_from_credits(world: World) -> None:
    cards = {"ada": Card.GOOD, "bea": Card.FAILS_LATER, "cis": Card.CHALLENGE}
    for user, card in cards.items():
        await enrolls(world, user, card)
        assert await stands(world, user) == ("active", FEBRUARY, "running")

    await world.at(FEBRUARY + MINUTE)
    for user in cards:
        assert (await stands(world, user), await credits_of(world, user)) == (
            ("active", MARCH, "running"),
            (0, True),
        )

    await world.at(MARCH + MINUTE)  # the balance is used up
    assert await entries(world, "ada") == [50, -25, -25, 50, -25]
    assert (await stands(world, "ada"), automatic(world, "ada")) == (("active", APRIL, "running"), ["succeeded"])
    for user in ("bea", "cis"):  # declined, and the bank asks for a confirmation that nobody gives
        assert (await stands(world, user), automatic(world, user)) == (("past_due", MARCH, "running"), ["canceled"])
        assert (await credits_of(world, user), world.mails(user)) == ((0, False), [FAILED])

    await world.at(SUSPENDED)
    assert await stands(world, "bea") == ("past_due", MARCH, "stopped")
    assert await tops_up(world, "bea", Card.GOOD, 2_000) == 20, "not enough yet"
    assert await stands(world, "bea") == ("past_due", MARCH, "stopped")
    assert await tops_up(world, "bea", Card.GOOD) == 45
    await world.watch.wait_until_settled()
    assert await stands(world, "bea") == ("active", APRIL, "running"), "renewed at once, and started again"

    await world.at(APRIL + MINUTE)
    assert await stands(world, "ada") == ("active", MAY, "running")
    assert await stands(world, "cis") == ("past_due", MARCH, "destroyed")
    assert await tops_up(world, "cis", Card.CHALLENGE) == 0, "two months are paid at once"
    assert await stands(world, "cis") == ("active", MAY, "destroyed")
    assert await entries(world, "cis") == [50, -25, -25, 50, -25, -25]
    assert world.mails("ada") == []
    assert await world.connection.fetch("SELECT FROM parked_messages") == []
