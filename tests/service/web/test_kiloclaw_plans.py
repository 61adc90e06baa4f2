"""Plans against a stateful stand-in for Stripe, over months of its clock (KC-40…KC-47)."""

from datetime import datetime
from typing import Any

import asyncpg
import pytest

from bursar.billing.calendar import add_months
from bursar.service.stripe_stand_in.world import Card
from tests.billing.kiloclaw.making import DAY, HOUR, NOW
from tests.service.web.test_kiloclaw_at_stripe import ADA, Selling, row, selling

__all__ = ["selling"]  # the fixture

COMMIT_END, RENEWED_END = add_months(NOW, 6), add_months(NOW, 12)
SETTLED = 2 * HOUR  # a renewal's invoice is a draft for an hour
SCHEDULE_FIELDS = ("plan", "commit_ends_at", "scheduled_plan", "scheduled_by")


async def pass_to(selling: Selling, instant: datetime) -> None:
    """Stripe's clock moves on, and we hear what happened."""
    await selling.stripe.advance(instant)
    await selling.hear()


def charged_cents(selling: Selling) -> list[int]:
    """What was paid, invoice by invoice, without those of nothing."""
    paid = [one["data"]["object"]["amount_paid"] for one in selling.stripe.events if one["type"] == "invoice.paid"]
    return [cents for cents in paid if cents]


async def scheduled(connection: asyncpg.Connection) -> tuple[Any, ...]:
    """Plan, the commitment's end, and what comes by whom."""
    known = await row(connection)
    return tuple(known[name] for name in SCHEDULE_FIELDS)


async def test_kc_40_kc_45_seven_months_from_commit_to_standard(
    selling: Selling, connection: asyncpg.Connection
) -> None:
    subscription_id = await selling.subscribe("commit")

    assert await scheduled(connection) == ("commit", COMMIT_END, "standard", "auto")
    assert (await row(connection))["stripe_schedule_id"] == selling.stripe.subscription(subscription_id)["schedule"]
    await pass_to(selling, COMMIT_END - HOUR)
    assert charged_cents(selling) == [5_400]
    await pass_to(selling, COMMIT_END + SETTLED)
    assert await scheduled(connection) == ("standard", None, None, None)
    assert (await row(connection))["stripe_schedule_id"] is None
    assert selling.stripe.subscription(subscription_id)["schedule"] is None
    await pass_to(selling, add_months(COMMIT_END, 1) + SETTLED)
    assert charged_cents(selling) == [5_400, 2_500, 2_500]
    assert len(selling.stripe.all("subscription_schedule")) == 1


async def test_kc_47_renewed_months_are_not_billed_again_at_the_old_boundary(
    selling: Selling, connection: asyncpg.Connection
) -> None:
    subscription_id = await selling.subscribe("commit")
    await pass_to(selling, NOW + 60 * DAY)

    answer = await selling.command("renew-commit")

    assert (answer.status_code, answer.json()) == (200, {"commit_ends_at": RENEWED_END.isoformat()})
    assert await scheduled(connection) == ("commit", RENEWED_END, "standard", "auto")
    assert charged_cents(selling) == [5_400, 5_400]
    await pass_to(selling, COMMIT_END + DAY)
    assert charged_cents(selling) == [5_400, 5_400]
    assert (await row(connection))["status"] == "active"
    assert await scheduled(connection) == ("commit", RENEWED_END, "standard", "auto")
    await pass_to(selling, RENEWED_END + SETTLED)
    assert charged_cents(selling) == [5_400, 5_400, 2_500]
    assert await scheduled(connection) == ("standard", None, None, None)
    assert selling.stripe.subscription(subscription_id)["status"] == "active"


async def test_kc_47_months_renewed_while_paid_ones_run_are_not_billed_either(
    selling: Selling, connection: asyncpg.Connection
) -> None:
    await selling.subscribe("commit")
    await selling.command("renew-commit")
    await pass_to(selling, COMMIT_END + 60 * DAY)

    answer = await selling.command("renew-commit")

    twice_renewed_end = add_months(NOW, 18)
    assert (answer.status_code, answer.json()) == (200, {"commit_ends_at": twice_renewed_end.isoformat()})
    await pass_to(selling, RENEWED_END + DAY)
    assert charged_cents(selling) == [5_400, 5_400, 5_400]
    assert await scheduled(connection) == ("commit", twice_renewed_end, "standard", "auto")
    await pass_to(selling, twice_renewed_end + SETTLED)
    assert charged_cents(selling) == [5_400, 5_400, 5_400, 2_500]


async def test_kc_47_kc_51_months_renewed_while_paid_ones_run_survive_a_cancellation(
    selling: Selling, connection: asyncpg.Connection
) -> None:
    subscription_id = await selling.subscribe("commit")
    await selling.command("renew-commit")
    await pass_to(selling, COMMIT_END + 60 * DAY)
    await selling.command("renew-commit")

    answer = await selling.command("cancel")

    assert answer.json()["ends_at"] == add_months(NOW, 18).isoformat()
    await pass_to(selling, add_months(NOW, 18) - DAY)
    assert (await row(connection))["status"] == "active"
    await pass_to(selling, add_months(NOW, 18) + SETTLED)
    assert selling.stripe.subscription(subscription_id)["status"] == "canceled"
    assert charged_cents(selling) == [5_400, 5_400, 5_400]


async def test_kc_47_paid_months_survive_a_cancellation_taken_back(
    selling: Selling, connection: asyncpg.Connection
) -> None:
    await selling.subscribe("commit")
    await selling.command("renew-commit")
    assert (await selling.command("cancel")).status_code == 200

    assert (await selling.command("reactivate")).status_code == 200

    assert await scheduled(connection) == ("commit", RENEWED_END, "standard", "auto")
    await pass_to(selling, COMMIT_END + DAY)
    assert charged_cents(selling) == [5_400, 5_400]


@pytest.mark.parametrize(
    ("card", "code"), [(Card.DECLINED, "payment_failed"), (Card.CHALLENGE, "payment_requires_action")]
)
async def test_kc_47_a_payment_that_fails_changes_nothing(
    selling: Selling, connection: asyncpg.Connection, card: Card, code: str
) -> None:
    subscription_id = await selling.subscribe("commit")
    known = await row(connection)
    await _charge_with(selling, subscription_id, card)

    answer = await selling.command("renew-commit")

    assert (answer.status_code, answer.json()["code"]) == (402, code)
    assert [one["status"] for one in selling.stripe.all("invoice") if not one["parent"]] == ["void"]
    after = await row(connection)
    assert [after[name] for name in SCHEDULE_FIELDS] == [known[name] for name in SCHEDULE_FIELDS]
    assert charged_cents(selling) == [5_400]


async def test_kc_47_one_payment_for_each_request(selling: Selling, connection: asyncpg.Connection) -> None:
    await selling.subscribe("commit")

    first = await selling.web.post(f"{ADA}/renew-commit", key="once")
    again = await selling.web.post(f"{ADA}/renew-commit", key="once")
    await selling.hear()

    assert first.json() == again.json()
    assert charged_cents(selling) == [5_400, 5_400]
    assert (await row(connection))["commit_ends_at"] == RENEWED_END


async def test_kc_42_kc_45_standard_becomes_commit_and_then_standard_by_itself(
    selling: Selling, connection: asyncpg.Connection
) -> None:
    await selling.subscribe()

    answer = await selling.web.post(f"{ADA}/switch-plan", {"plan": "commit"})
    await selling.hear()

    assert answer.json() == {"scheduled_plan": "commit", "scheduled_by": "user", "commit_ends_at": None}
    assert await scheduled(connection) == ("standard", None, "commit", "user")
    period_end = add_months(NOW, 1)
    await pass_to(selling, period_end + SETTLED)
    assert await scheduled(connection) == ("commit", add_months(period_end, 6), "standard", "auto")
    assert charged_cents(selling) == [2_500, 5_400]
    await pass_to(selling, add_months(period_end, 6) + SETTLED)
    assert await scheduled(connection) == ("standard", None, None, None)
    assert charged_cents(selling) == [2_500, 5_400, 2_500]


async def test_kc_44_a_switch_is_taken_back(selling: Selling, connection: asyncpg.Connection) -> None:
    subscription_id = await selling.subscribe()
    assert (await selling.command("cancel-plan-switch")).json()["code"] == "no_pending_switch"
    await selling.web.post(f"{ADA}/switch-plan", {"plan": "commit"})
    await selling.hear()

    answer = await selling.command("cancel-plan-switch")

    assert answer.json() == {"scheduled_plan": None, "scheduled_by": None, "commit_ends_at": None}
    assert await scheduled(connection) == ("standard", None, None, None)
    assert selling.stripe.subscription(subscription_id)["schedule"] is None


async def test_kc_43_a_users_switch_replaces_the_automatic_schedule_which_comes_back(
    selling: Selling, connection: asyncpg.Connection
) -> None:
    await selling.subscribe("commit")

    await selling.web.post(f"{ADA}/switch-plan", {"plan": "standard"})
    await selling.hear()
    assert await scheduled(connection) == ("commit", COMMIT_END, "standard", "user")
    await selling.command("cancel-plan-switch")

    assert await scheduled(connection) == ("commit", COMMIT_END, "standard", "auto")
    assert (await selling.web.get(f"{ADA}/status")).json()["subscription"]["scheduledPlan"] is None
    await pass_to(selling, COMMIT_END + SETTLED)
    assert charged_cents(selling) == [5_400, 2_500]


async def _charge_with(selling: Selling, subscription_id: str, card: Card) -> None:
    """The customer's card from now on, also where the subscription has one of its own."""
    method = selling.stripe.give_card(selling.stripe.subscription(subscription_id)["customer"], card)
    selling.stripe.world.get("subscription", subscription_id)["default_payment_method"] = method
    await selling.hear()
