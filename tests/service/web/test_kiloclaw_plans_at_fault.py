"""Plans while Stripe fails, hangs up and refuses: paid once, scheduled once (KC-41, KC-46, KC-47)."""

from datetime import datetime, timedelta

import asyncpg
import pytest

from bursar.billing.calendar import add_months
from bursar.billing.values import replace
from bursar.service.stripe_stand_in.faults import Fault
from tests.billing.kiloclaw.making import DAY, NOW
from tests.db.deciding import StandingClock
from tests.service.web.test_kiloclaw_at_stripe import ADA, Selling, row, selling
from tests.service.web.test_kiloclaw_plans import COMMIT_END, RENEWED_END, charged_cents, pass_to, scheduled

__all__ = ["selling"]  # the fixture

UNANSWERED = list(Fault)[:6]
CREATE_SCHEDULE = "POST /v1/subscription_schedules"
UPDATE_SCHEDULE = "POST /v1/subscription_schedules/{schedule}"
ASK_AGAIN = """
    UPDATE steps SET state = 'due', asked = asked + 1, attempts = 0, lease = NULL, due_at = created_at
    WHERE kind = 'keep_schedule'
"""
PAY = "POST /v1/invoices/{invoice}/pay"
OF_A_RENEWAL = [
    "POST /v1/invoices",
    "POST /v1/invoiceitems",
    "POST /v1/invoices/{invoice}/finalize",
    PAY,
    UPDATE_SCHEDULE,
]


@pytest.mark.parametrize("fault", UNANSWERED)
@pytest.mark.parametrize("call", OF_A_RENEWAL)
async def test_kc_47_paid_once_whatever_happens_to_an_answer(
    selling: Selling, connection: asyncpg.Connection, call: str, fault: Fault
) -> None:
    await selling.subscribe("commit")
    selling.stripe.faults.next(call, fault)

    answer = await selling.command("renew-commit")

    assert answer.status_code == 200, answer.text
    assert charged_cents(selling) == [5_400, 5_400]
    assert await scheduled(connection) == ("commit", RENEWED_END, "standard", "auto")
    await pass_to(selling, COMMIT_END + DAY)
    assert charged_cents(selling) == [5_400, 5_400]


@pytest.mark.parametrize("fault", UNANSWERED)
@pytest.mark.parametrize("call", [CREATE_SCHEDULE, UPDATE_SCHEDULE])
async def test_kc_41_one_schedule_whatever_happens_to_an_answer(
    selling: Selling, connection: asyncpg.Connection, call: str, fault: Fault
) -> None:
    subscription_id = await selling.subscribe()
    selling.stripe.faults.next(call, fault)

    answer = await selling.web.post(f"{ADA}/switch-plan", {"plan": "commit"})
    await selling.hear()

    assert answer.status_code == 200, answer.text
    [schedule] = selling.stripe.all("subscription_schedule", status="active")
    assert schedule["id"] == selling.stripe.subscription(subscription_id)["schedule"]
    assert await scheduled(connection) == ("standard", None, "commit", "user")


async def test_kc_46_a_schedule_whose_phases_are_refused_is_released(
    selling: Selling, connection: asyncpg.Connection
) -> None:
    subscription_id = await selling.subscribe()
    del selling.stripe.world.tables["price"]["price_commit"]

    answer = await selling.web.post(f"{ADA}/switch-plan", {"plan": "commit"})
    await selling.hear()

    assert (answer.status_code, answer.json()["code"]) == (502, "stripe_refused")
    assert [one["status"] for one in selling.stripe.all("subscription_schedule")] == ["released"]
    assert selling.stripe.subscription(subscription_id)["schedule"] is None
    assert await scheduled(connection) == ("standard", None, None, None)


async def test_kc_47_a_schedule_refused_after_the_payment_is_an_operators_and_the_months_stay(
    selling: Selling, connection: asyncpg.Connection
) -> None:
    await selling.subscribe("commit")
    price = selling.stripe.world.tables["price"].pop("price_standard")

    answer = await selling.command("renew-commit")

    assert answer.json() == {"commit_ends_at": RENEWED_END.isoformat()}
    assert (await row(connection))["commit_ends_at"] == RENEWED_END
    kept = "SELECT state FROM steps WHERE kind = 'keep_schedule'"
    assert await connection.fetchval(kept) == "failed"
    selling.stripe.world.tables["price"]["price_standard"] = price
    await connection.execute(ASK_AGAIN)
    await selling.hear()
    assert await connection.fetchval(kept) == "done"
    await pass_to(selling, COMMIT_END + DAY)
    assert charged_cents(selling) == [5_400, 5_400]
    assert await scheduled(connection) == ("commit", RENEWED_END, "standard", "auto")


async def test_kc_47_a_renewal_that_was_paid_is_finished_however_late(
    selling: Selling, connection: asyncpg.Connection, clock: StandingClock
) -> None:
    await selling.subscribe("commit")
    state = selling.web.app.state
    state.web = replace(state.web, operation_budget_seconds=5.0)  # it must come as far as to pay, on a slow machine too
    selling.stripe.faults.next(PAY, Fault.HELD)
    late = await selling.web.post(f"{ADA}/renew-commit", key="k1")
    assert selling.stripe.faults.holding.is_set()
    selling.stripe.faults.let_go()

    assert late.status_code == 503
    clock.real_now += timedelta(hours=1)
    await selling.hear()
    told = await selling.web.post(f"{ADA}/renew-commit", key="k1")
    assert (told.status_code, told.json()) == (200, {"commit_ends_at": RENEWED_END.isoformat()})
    assert charged_cents(selling) == [5_400, 5_400]
    assert await scheduled(connection) == ("commit", RENEWED_END, "standard", "auto")


async def test_kc_40_delayed_billing_is_prelaunch_then_commit_then_standard(
    selling: Selling, connection: asyncpg.Connection
) -> None:
    billing_starts_at = _bill_from(selling, NOW + 20 * DAY)
    await selling.subscribe("commit")

    commit_end = add_months(billing_starts_at, 6)
    assert await scheduled(connection) == ("commit", commit_end, "standard", "auto")
    await pass_to(selling, billing_starts_at + DAY)
    assert charged_cents(selling) == [5_400]
    await pass_to(selling, commit_end + DAY)
    assert charged_cents(selling) == [5_400, 2_500]
    assert await scheduled(connection) == ("standard", None, None, None)


async def test_kc_47_kc_51_months_paid_before_billing_began_survive_a_cancellation(
    selling: Selling, connection: asyncpg.Connection
) -> None:
    billing_starts_at = _bill_from(selling, NOW + 20 * DAY)
    subscription_id = await selling.subscribe("commit")
    await selling.command("renew-commit")
    assert charged_cents(selling) == [5_400]

    answer = await selling.command("cancel")

    paid_until = add_months(billing_starts_at, 6)
    assert answer.json()["ends_at"] == paid_until.isoformat()
    await pass_to(selling, paid_until - DAY)
    assert (await row(connection))["status"] == "active"
    await pass_to(selling, paid_until + DAY)
    assert selling.stripe.subscription(subscription_id)["status"] == "canceled"
    assert charged_cents(selling) == [5_400]


async def test_kc_51_without_a_renewal_nothing_is_paid_before_billing_began(selling: Selling) -> None:
    billing_starts_at = _bill_from(selling, NOW + 20 * DAY)
    await selling.subscribe("commit")

    assert (await selling.command("cancel")).json()["ends_at"] == billing_starts_at.isoformat()


def _bill_from(selling: Selling, billing_starts_at: datetime) -> datetime:
    state = selling.web.app.state
    prices = state.web.catalogue.prices.model_copy(update={"billing_starts_at": billing_starts_at})
    state.web = replace(state.web, catalogue=state.web.catalogue.model_copy(update={"prices": prices}))
    return billing_starts_at
