"""Accounts recomputed from their entries: found, stopped, cleared (CR-4)."""

from typing import Any

import asyncpg
import pytest

from bursar.billing.credits.enrolment import Enrolment
from bursar.db import credit_audit
from bursar.db.parked_actions import Signature
from bursar.handlers.credits import enrolment_item
from bursar.service.checks.auditing import Auditing, Auditor
from bursar.service.observability.metrics import Metrics
from bursar.service.processes.gauges import WaitingGauges
from bursar.service.steps.step_crew import StepCrew
from bursar.service.steps.together import Together
from bursar.service.ticks.paging import HOUSE_PARTITION, Sweeping
from tests.billing.credits.crediting import DOLLAR, DUE, a_credit_row
from tests.billing.kiloclaw.making import CATALOGUE, HOUR
from tests.db.deciding import REAL_NOW
from tests.service.crediting import giving, hosted
from tests.service.partition_ticks import tick_message
from tests.service.steps.acting import Acting, acting
from tests.service.ticks.test_credit_renewals import row, tick, ticking

BY = Signature("olga", "put right by hand")


async def no_bar(_: int) -> None:
    """Nobody looks."""


async def tamper(connection: asyncpg.Connection, sql: str, *arguments: Any) -> None:
    """Change what the database forbids: without its triggers."""
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(sql, *arguments)


GIFT = "UPDATE credit_accounts SET acquired_microdollars = acquired_microdollars + 7 WHERE user_id = $1"


async def mismatches(worker: Acting) -> list[tuple[Any, ...]]:
    return await worker.fetch(
        """
        SELECT user_id, acquired_difference_microdollars, used_difference_microdollars FROM credit_mismatches
        WHERE cleared_at IS NULL ORDER BY user_id
        """
    )


@pytest.mark.parametrize(
    ("sql", "difference"),
    [
        (GIFT, (7, 0)),
        ("UPDATE credit_accounts SET used_microdollars = used_microdollars - 9 WHERE user_id = $1", (0, -9)),
        ("DELETE FROM credit_transactions WHERE user_id = $1 AND kind = 'deposit'", (100 * DOLLAR, 0)),
        ("DELETE FROM credit_accounts WHERE user_id = $1", (-100 * DOLLAR, -25 * DOLLAR)),
        ("UPDATE credit_transactions SET amount_microdollars = 1 WHERE user_id = $1 AND kind = 'deposit'", None),
    ],
)
async def test_cr_4_an_account_that_does_not_fit_its_entries_is_found(
    database_url: str, connection: asyncpg.Connection, sql: str, difference: tuple[int, int] | None
) -> None:
    async with ticking(database_url) as (worker, sweeps):
        for user in ("ada", "bob", "eve"):
            await hosted(worker, a_credit_row(), 100, user)
        await tick(worker, sweeps, DUE, "credit_renewal")
        auditing = Auditing(worker.decider, page_accounts=2)
        assert (await auditing.everything(no_bar)).counts() == {"audited": 3, "mismatches": 0, "new": 0}
        await tamper(connection, sql, "ada")

        assert (await auditing.everything(no_bar)).counts() == {"audited": 3, "mismatches": 1, "new": 1}
        assert (await auditing.everything(no_bar)).new == 0
        assert await mismatches(worker) == [("ada", *(difference or (100 * DOLLAR - 1, 0)))]


async def test_cr_4_charges_are_stopped_until_an_operator_clears_it_and_others_go_on(
    database_url: str, connection: asyncpg.Connection
) -> None:
    async with ticking(database_url) as (worker, sweeps):
        for user in ("ada", "eve"):
            await worker.decider.decide([giving(100, user)])
        await tamper(connection, GIFT, "ada")
        await Auditing(worker.decider).everything(no_bar)

        def enrolling(user: str, command: str) -> Any:
            return enrolment_item(user, Enrolment("standard", f"inst-{user}", command), CATALOGUE)

        refused, other = await worker.decider.decide([enrolling("ada", "c1"), enrolling("eve", "c2")])
        assert getattr(refused.error, "code", None) == "charges_stopped"
        assert other.error is None
        assert (await worker.decider.decide([giving(5, "ada", "pi_more")]))[0].error is None

        assert await credit_audit.clear(connection, "ada", BY, REAL_NOW)
        assert not await credit_audit.clear(connection, "ada", BY, REAL_NOW)
        assert (await Auditing(worker.decider).everything(no_bar)).new == 0, "the same difference was accepted"
        assert (await worker.decider.decide([enrolling("ada", "c3")]))[0].error is None
        assert await tick(worker, sweeps, DUE, "credit_renewal")


async def test_cr_4_a_difference_that_was_cleared_and_put_right_is_found_when_it_comes_again(
    database_url: str, connection: asyncpg.Connection
) -> None:
    async with acting(database_url) as worker:
        await worker.decider.decide([giving(100)])
        auditing = Auditing(worker.decider)
        await tamper(connection, GIFT, "ada")
        assert (await auditing.everything(no_bar)).new == 1
        assert await credit_audit.clear(connection, "ada", BY, REAL_NOW)
        assert (await auditing.everything(no_bar)).new == 0, "it was accepted"

        await tamper(connection, GIFT.replace("+ 7", "- 7"), "ada")
        assert (await auditing.everything(no_bar)).mismatches == []
        await tamper(connection, GIFT, "ada")
        assert (await auditing.everything(no_bar)).new == 1
        assert await mismatches(worker) == [("ada", 7, 0)]


async def test_cr_4_the_database_itself_refuses_the_charge_but_no_settlement(
    database_url: str, connection: asyncpg.Connection
) -> None:
    async with acting(database_url) as worker:
        await worker.decider.decide([giving(100)])
    await tamper(connection, GIFT, "ada")
    await credit_audit.note(connection, await credit_audit.audit_page(connection, "", 10), REAL_NOW)
    insert = """
        INSERT INTO credit_transactions (
            user_id, kind, amount_microdollars, description, business_key, cause, payment_id, created_at)
        SELECT 'ada', kind, amount, 'by hand', kind, 'by hand', payment_id, now()
        FROM unnest($1::text[], $2::bigint[], $3::text[]) AS wanted (kind, amount, payment_id)
    """
    with pytest.raises(asyncpg.CheckViolationError, match="do not fit"):
        await connection.execute(insert, ["charge"], [-1], [None])
    await connection.execute(insert, ["settlement_deposit", "settlement_charge"], [5, -5], ["in_1", "in_1"])


async def test_cr_4_cr_62_a_renewal_that_is_stopped_is_an_operators_and_protected(
    database_url: str, connection: asyncpg.Connection
) -> None:
    async with ticking(database_url) as (worker, sweeps):
        await hosted(worker, a_credit_row(), 100)
        await tamper(connection, GIFT, "ada")
        await Auditing(worker.decider).everything(no_bar)
        for hours in range(3):
            await tick(worker, sweeps, DUE + hours * HOUR)

        assert await worker.fetch("SELECT state, category FROM renewal_failures") == [("unresolved", "charges_stopped")]
        assert await row(worker, "status") == ("active",)


async def test_cr_4_the_sweep_goes_on_where_it_ended_and_begins_again(
    database_url: str, connection: asyncpg.Connection
) -> None:
    async with acting(database_url) as worker:
        users = [f"user-{number}" for number in range(5)]
        await worker.decider.decide([giving(1, user) for user in users])
        auditing = Auditing(worker.decider, page_accounts=2)
        assert (await auditing.some(no_bar, pages=1)).audited == 2
        await tamper(connection, GIFT, "user-2")
        assert (await auditing.some(no_bar, pages=1)).counts() == {"audited": 2, "mismatches": 1, "new": 1}
        assert (await auditing.some(no_bar, pages=5)).audited == 1
        assert (await auditing.some(no_bar, pages=5)).audited == 5


async def test_cr_4_a_tick_asks_for_it_and_its_step_reports_and_alerts(
    database_url: str, connection: asyncpg.Connection
) -> None:
    async with acting(database_url) as worker:
        await worker.decider.decide([giving(1)])
        await tamper(connection, GIFT, "ada")
        sweeps, metrics = Sweeping(worker.decider, CATALOGUE), Metrics()
        await sweeps.begin(tick_message("audit", partition=HOUSE_PARTITION))
        while await sweeps.page(HOUSE_PARTITION):
            pass
        auditor = Auditor(Auditing(worker.decider), worker.decider)
        crew = StepCrew(auditor, worker.decider, Together(worker.decider), metrics)
        for job in await crew.claim(1):
            await crew.carry_out(job)
        await WaitingGauges(worker.decider, metrics).measure()

        assert await worker.steps() == [("audit", "done", 1)]
        ((reported,),) = await worker.fetch("SELECT reported->'audit' FROM tick_partitions")
        assert reported == {"audited": 1, "mismatches": 1, "new": 1}
        assert metrics.registry.get_sample_value("bursar_credit_mismatches") == 1
