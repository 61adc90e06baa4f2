"""Renewals from tick to ledger, row, mail and instance (CR-30…CR-41)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from bursar.billing.account import partition_of, user_key
from bursar.service.ticks.paging import Sweeping
from tests.billing.credits.crediting import BEGUN, DUE, a_credit_row
from tests.billing.kiloclaw.making import CATALOGUE, DAY, HOUR
from tests.service.crediting import balance, charges, giving, hosted
from tests.service.partition_ticks import tick_message
from tests.service.steps.acting import Acting, acting

ADA = partition_of(user_key("ada"), 32)
MAIL = "claw_credit_renewal_failed"


@asynccontextmanager
async def ticking(database_url: str) -> AsyncIterator[tuple[Acting, Sweeping]]:
    async with acting(database_url) as worker:
        worker.clock.now = BEGUN
        yield worker, Sweeping(worker.decider, CATALOGUE)


async def tick(worker: Acting, sweeps: Sweeping, at: datetime, name: str = "hourly") -> dict[str, Any]:
    """One tick at that instant, worked off; its counts of renewals."""
    worker.clock.now = at
    await sweeps.begin(tick_message(name, at, ADA))
    pages = 0
    while await sweeps.page(ADA):
        pages += 1
        assert pages < 100
    (row,) = await worker.fetch("SELECT counts FROM tick_partitions ORDER BY tick_id DESC LIMIT 1")
    return dict(row[0]["credit_renewal"])


async def row(worker: Acting, *columns: str) -> tuple[Any, ...]:
    (found,) = await worker.fetch(f"SELECT {', '.join(columns)} FROM kiloclaw_subscriptions")  # noqa: S608
    return found


async def test_cr_30_cr_32_a_row_three_months_behind_takes_three_items_of_one_tick(database_url: str) -> None:
    async with ticking(database_url) as (worker, sweeps):
        await hosted(worker, a_credit_row(), 80)
        counts = await tick(worker, sweeps, DUE + 65 * DAY)

        assert (counts["found"], counts["renewed"]) == (3, 3)
        assert (await charges(worker), await balance(worker)) == ([25, 25, 25], 5)
        (ends_at,) = await row(worker, "current_period_end")
        assert ends_at.date().isoformat() == "2026-05-31"
        assert (await tick(worker, sweeps, DUE + 65 * DAY + HOUR))["found"] == 0


async def test_cr_32_money_for_one_of_three_renews_once_and_is_then_past_due(database_url: str) -> None:
    async with ticking(database_url) as (worker, sweeps):
        await hosted(worker, a_credit_row(), 30)
        counts = await tick(worker, sweeps, DUE + 65 * DAY)

        assert (counts["found"], counts["renewed"], counts["unpaid"]) == (2, 1, 1)
        assert await row(worker, "status") == ("past_due",)
        assert await balance(worker) == 5


async def test_cr_39_cr_37_an_unpaid_renewal_is_mailed_of_once_and_recovers_when_money_comes(database_url: str) -> None:
    async with ticking(database_url) as (worker, sweeps):
        await hosted(worker, a_credit_row(), 20)
        for hours in range(3):
            await tick(worker, sweeps, DUE + hours * HOUR)
        await worker.do_mails()
        assert await row(worker, "status", "past_due_since") == ("past_due", DUE)
        (mail,) = worker.mail.sent
        assert (mail.mail_type, "28 February 2026" in mail.text) == (MAIL, True)

        await worker.decider.decide([giving(10, payment_id="pi_more")])
        await tick(worker, sweeps, DUE + 5 * HOUR)
        assert await row(worker, "status", "past_due_since") == ("active", None)
        assert await balance(worker) == 5


async def test_cr_39_a_mail_of_a_renewal_that_was_paid_meanwhile_is_not_sent(database_url: str) -> None:
    async with ticking(database_url) as (worker, sweeps):
        await hosted(worker, a_credit_row(), 20)
        await tick(worker, sweeps, DUE)
        await worker.decider.decide([giving(10, payment_id="pi_more")])
        await tick(worker, sweeps, DUE + HOUR)
        await worker.do_mails()

        assert worker.mail.sent == []
        assert await worker.mails() == [(MAIL, "dropped")]


async def test_cr_37_a_suspended_user_who_pays_is_renewed_and_started_again(database_url: str) -> None:
    async with ticking(database_url) as (worker, sweeps):
        await hosted(worker, a_credit_row())
        await tick(worker, sweeps, DUE)
        await tick(worker, sweeps, DUE + 15 * DAY)
        await worker.do_instances()
        assert await row(worker, "status", "suspended_at") == ("past_due", DUE + 15 * DAY)

        await worker.decider.decide([giving(25)])
        await tick(worker, sweeps, DUE + 16 * DAY)
        await worker.do_instances()
        assert await row(worker, "status", "suspended_at", "destruction_deadline") == ("active", None, None)
        assert [call[1] for call in worker.instances.calls] == ["stopped", "running"]


async def test_cr_34_a_pending_cancellation_ends_at_the_boundary_and_is_suspended_in_that_hour(
    database_url: str,
) -> None:
    async with ticking(database_url) as (worker, sweeps):
        await hosted(worker, a_credit_row(cancel_at_period_end=True), 100)
        await tick(worker, sweeps, DUE + HOUR)

        assert await row(worker, "status", "cancel_at_period_end", "suspended_at") == ("canceled", False, DUE + HOUR)
        assert await balance(worker) == 100


async def test_cr_35_a_scheduled_plan_survives_saving_and_is_applied(database_url: str) -> None:
    async with ticking(database_url) as (worker, sweeps):
        await hosted(worker, a_credit_row(scheduled_plan="commit", scheduled_by="user"), 60)
        await tick(worker, sweeps, DUE)

        columns = ("plan", "scheduled_plan", "credit_anchor_at", "commit_ends_at = credit_renewal_at")
        assert await row(worker, *columns) == ("commit", "standard", BEGUN, True)
        assert await balance(worker) == 6


async def test_cr_31_a_row_that_was_canceled_after_it_was_found_is_stale(database_url: str) -> None:
    async with ticking(database_url) as (worker, _):
        await hosted(worker, a_credit_row(status="canceled"), 100)
        worker.clock.now = DUE
        outcome = await worker.sweep("credit_renewal")

        assert outcome.decision
        assert outcome.decision.counts == {"stale": 1}
        assert await row(worker, "version") == (1,)
