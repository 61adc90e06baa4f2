"""Renewals that fail unexpectedly: retried each hour, kept for operators, and their rows left alone (CR-60…CR-62)."""

from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from bursar.billing.account import partition_of, user_key
from bursar.db import renewal_failures
from bursar.db.connections import Connection
from bursar.db.parked_actions import Signature
from bursar.db.renewal_failure_actions import settle
from bursar.db.renewal_failures import FailedRenewal, page_of_failures
from bursar.service.ticks.paging import Sweeping
from tests.billing.credits.crediting import DUE, a_credit_row
from tests.billing.kiloclaw.making import DAY, HOUR
from tests.db.deciding import REAL_NOW
from tests.service.crediting import balance, hosted
from tests.service.failing_renewals import break_renewals, mend_renewals
from tests.service.steps.acting import Acting, acting
from tests.service.ticks.test_credit_renewals import ADA, row, tick, ticking

BY = Signature("olga", "the bank was closed")


async def fail(worker: Acting, sweeps: Sweeping, connection: Connection, times: int = 3) -> None:
    """A row whose renewal fails so many hours in a row."""
    await hosted(worker, a_credit_row(), 100)
    await break_renewals(connection)
    for hours in range(times):
        counts = await tick(worker, sweeps, DUE + hours * HOUR)
        assert (counts["found"], counts["failed"]) == (1, 1)


async def records(connection: Connection) -> list[tuple[Any, ...]]:
    found = await page_of_failures(connection, None, None, 10)
    return [(one.boundary, one.state, one.attempts, one.category) for one in found]


async def test_cr_60_the_third_failure_is_an_operators_and_never_past_due(
    database_url: str, connection: asyncpg.Connection
) -> None:
    async with ticking(database_url) as (worker, sweeps):
        await fail(worker, sweeps, connection, times=2)
        assert await records(connection) == [(DUE, "retrying", 2, "database")]
        worker.clock.real_now = REAL_NOW + HOUR
        await tick(worker, sweeps, DUE + 2 * HOUR)

        assert await records(connection) == [(DUE, "unresolved", 3, "database")]
        (kept,) = await page_of_failures(connection, "unresolved", None, 10)
        assert (kept.first_failed_at, kept.last_failed_at) == (REAL_NOW, REAL_NOW + HOUR)
        assert "sk_test" not in kept.error
        assert "@" not in kept.error
        assert await row(worker, "status", "past_due_since") == ("active", None)
        assert worker.mail.sent == []


async def test_cr_60_a_renewal_that_works_the_second_time_leaves_nothing_open(
    database_url: str, connection: asyncpg.Connection
) -> None:
    async with ticking(database_url) as (worker, sweeps):
        await fail(worker, sweeps, connection, times=1)
        await mend_renewals(connection)
        await tick(worker, sweeps, DUE + HOUR)

        assert await balance(worker) == 75
        assert await records(connection) == [(DUE, "superseded", 1, "database")]


async def test_cr_60_another_row_of_the_page_is_renewed_all_the_same(
    database_url: str, connection: asyncpg.Connection
) -> None:
    async with ticking(database_url) as (worker, sweeps):
        beside = next(name for name in map("eve{}".format, range(1_000)) if partition_of(user_key(name), 32) == ADA)
        await hosted(worker, a_credit_row(), 100)
        await hosted(worker, a_credit_row(), 100, beside)
        await break_renewals(connection)
        counts = await tick(worker, sweeps, DUE)

        assert (counts["found"], counts["failed"], counts["renewed"]) == (2, 1, 1)
        assert (await balance(worker), await balance(worker, beside)) == (100, 75)
        assert await records(connection) == [(DUE, "retrying", 1, "database")]


def an_attempt(attempt: int, minutes: int, error: str = "Boom") -> FailedRenewal:
    return FailedRenewal("user:ada", DUE, attempt, REAL_NOW + timedelta(minutes=minutes), "bug", error)


async def test_cr_61_twice_or_out_of_order_is_one_record(database_url: str, connection: asyncpg.Connection) -> None:
    async with acting(database_url) as worker:
        await hosted(worker, a_credit_row())
    for attempt, minutes in ((3, 30), (1, 10), (2, 20), (3, 30), (2, 20)):
        await renewal_failures.record(connection, [an_attempt(attempt, minutes, f"Boom {attempt}")])

    (kept,) = await page_of_failures(connection, None, None, 10)
    assert (kept.attempts, kept.state, kept.error) == (3, "unresolved", "Boom 3")
    assert (kept.first_failed_at, kept.last_failed_at) == tuple(an_attempt(1, m).failed_at for m in (10, 30))


@pytest.mark.parametrize("state", ["resolved", "waived"])
async def test_cr_61_a_settled_one_stays_settled(database_url: str, connection: asyncpg.Connection, state: Any) -> None:
    async with acting(database_url) as worker:
        await hosted(worker, a_credit_row())
    await renewal_failures.record(connection, [an_attempt(3, 0)])
    (kept,) = await page_of_failures(connection, "unresolved", None, 10)
    assert await settle(connection, kept.id, state, BY, REAL_NOW)
    await renewal_failures.record(connection, [an_attempt(4, 60)])

    assert await records(connection) == [(DUE, state, 4, "bug")]


async def test_cr_62_nothing_is_done_to_the_row_while_it_is_unresolved(
    database_url: str, connection: asyncpg.Connection
) -> None:
    async with ticking(database_url) as (worker, sweeps):
        await fail(worker, sweeps, connection)
        await connection.execute(
            "UPDATE kiloclaw_subscriptions SET status = 'past_due', past_due_since = $1", DUE - 30 * DAY
        )
        await tick(worker, sweeps, DUE + 4 * HOUR)
        assert await row(worker, "suspended_at") == (None,)
        assert await worker.mails() == []

        await connection.execute("UPDATE renewal_failures SET state = 'waived', settled_at = $1", REAL_NOW)
        await tick(worker, sweeps, DUE + 5 * HOUR)
        assert await row(worker, "suspended_at") == (DUE + 5 * HOUR,)


async def test_cr_62_cr_63_the_failure_of_an_earlier_boundary_protects_no_longer(
    database_url: str, connection: asyncpg.Connection
) -> None:
    async with ticking(database_url) as (worker, sweeps):
        await hosted(worker, a_credit_row(status="past_due", past_due_since=DUE - 30 * DAY), 0)
        await renewal_failures.record(connection, [an_attempt(3, 0)])
        await connection.execute("UPDATE renewal_failures SET boundary = boundary - interval '1 month'")
        await tick(worker, sweeps, DUE + HOUR)

        assert await row(worker, "suspended_at") == (DUE + HOUR,)
        assert [state for _, state, *_ in await records(connection)] == ["superseded"]
