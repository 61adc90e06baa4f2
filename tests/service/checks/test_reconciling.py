"""All of Stripe's subscriptions and all rows, compared in both directions, repaired within a bound (MS-10)."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from bursar.billing.errors import Retryable
from bursar.billing.kiloclaw.reconciling import FindingKind
from bursar.billing.values import replace
from bursar.db import ticks
from bursar.service.checks.reconcile_step import RECONCILE, Reconciler
from bursar.service.checks.reconciling import Reconciling, Report
from bursar.service.steps.step_crew import StepCrew
from bursar.service.steps.together import Together
from bursar.service.web.deleting import deleted
from bursar.sweeps.checks import asking_for
from tests.billing.kiloclaw.making import CATALOGUE, HOUR, NOW, SECOND, a_paid_row, a_stripe_subscription
from tests.service.checks.listing import FakeListing
from tests.service.steps.acting import Acting, acting, having


@pytest.fixture
async def worker(database_url: str) -> AsyncIterator[Acting]:
    async with acting(database_url) as opened:
        yield opened


def at_stripe(user: str, **changes: Any) -> Any:
    metadata = {"type": "kiloclaw", "userId": user, "plan": "standard"}
    fields = {"id": f"sub_{user}", "customer": f"cus_{user}", "metadata": metadata} | changes
    return a_stripe_subscription(**fields)


async def known_here(worker: Acting, *users: str, **changes: Any) -> None:
    for user in users:
        row = a_paid_row(stripe_subscription_id=f"sub_{user}", stripe_customer_id=f"cus_{user}")
        profile = {"stripe_customer_id": f"cus_{user}"}
        await worker.decider.decide([having(replace(row, **changes), user, instance=False, **profile)])
    worker.clock.now += HOUR
    worker.clock.real_now += HOUR


async def reconciled(worker: Acting, stripe: FakeListing, repairs: int = 0) -> Report:
    async def no_matter(_: int) -> None:
        return

    return await Reconciling(stripe, worker.decider, CATALOGUE, repairs=repairs).run(no_matter)


def told(report: Report) -> list[tuple[str, str, str | None]]:
    return sorted((one.kind.value, one.stripe_subscription_id, one.account_key) for one in report.findings)


async def test_ms_10_missing_here_missing_there_different_and_what_fits(worker: Acting) -> None:
    await known_here(worker, "fits", "differs", "lost")
    stripe = FakeListing(
        subscriptions=[at_stripe("fits"), at_stripe("differs", status="past_due"), at_stripe("unheard-of")],
        unreadable=("Stripe's subscription sub_odd cannot be read: items",),
        page_size=9,
    )
    report = await reconciled(worker, stripe)
    assert told(report) == [
        ("different", "sub_differs", "user:differs"),
        ("missing_here", "sub_unheard-of", "user:unheard-of"),
        ("missing_there", "sub_lost", "user:lost"),
        ("unreadable", "Stripe's subscription sub_odd cannot be read: items", None),
    ]
    assert (report.compared, report.repairs_asked) == (4, 0)
    assert await worker.steps() == [], "it only reports"
    assert await worker.fetch("SELECT * FROM reconciled") == []


async def test_page_by_page_and_others_are_left_alone(worker: Acting) -> None:
    await known_here(worker, *"abcde")
    foreign = a_stripe_subscription(id="sub_seats", metadata={"type": "seats"})
    stripe = FakeListing(subscriptions=[*map(at_stripe, "abcde"), foreign])
    report = await reconciled(worker, stripe)
    assert (report.compared, report.findings) == (5, [])
    assert stripe.asked == [None, "sub_b", "sub_d"]


async def test_ms_10_a_row_that_the_list_lacks_is_looked_up_before_it_is_called_missing(worker: Acting) -> None:
    """The list may have moved while it was read."""
    await known_here(worker, "ada")
    assert (await reconciled(worker, FakeListing(unlisted=[at_stripe("ada")]))).findings == []


async def test_an_ended_row_need_not_be_listed(worker: Acting) -> None:
    await known_here(worker, "ada", status="canceled")
    assert (await reconciled(worker, FakeListing())).findings == []


async def test_ms_10_it_repairs_at_most_as_many_as_an_operator_allows(worker: Acting) -> None:
    await known_here(worker, *"abcd")
    stripe = FakeListing(subscriptions=[at_stripe(user, status="past_due") for user in "abcd"])
    report = await reconciled(worker, stripe, repairs=3)
    assert (report.counts[FindingKind.DIFFERENT], report.repairs_asked) == (4, 3)
    assert len(await worker.steps()) == 3


async def test_ms_10_a_repaired_row_fits(worker: Acting) -> None:
    await known_here(worker, "ada")
    there = [at_stripe("ada", status="past_due"), at_stripe("grace")]
    stripe = FakeListing(subscriptions=there)
    worker.stripe.listed = {"cus_ada": there[:1], "cus_grace": there[1:]}
    assert (await reconciled(worker, stripe, repairs=10)).repairs_asked == 2
    await worker.do_reads()
    worker.clock.now += HOUR
    assert (await reconciled(worker, stripe)).findings == []
    rows = await worker.fetch("SELECT user_id, status FROM kiloclaw_subscriptions ORDER BY user_id")
    assert rows == [("ada", "past_due"), ("grace", "active")]


async def test_kc_121_nothing_is_repaired_for_a_deleted_user(worker: Acting) -> None:
    await known_here(worker, "ada", cancel_at_period_end=True)
    await deleted(worker.decider, "ada", "command:1")
    report = await reconciled(worker, FakeListing(subscriptions=[at_stripe("ada")]), repairs=10)
    assert (report.counts[FindingKind.MISSING_HERE], report.repairs_asked) == (1, 0)
    assert await worker.fetch("SELECT key FROM accounts WHERE key LIKE 'user:%'") == []


async def step(worker: Acting, stripe: FakeListing, plan: str = RECONCILE) -> str:
    """A tick asks, a worker does it; the step's state."""
    async with worker.decider.pool.acquire() as connection:
        tick = await ticks.insert_tick(connection, plan, worker.clock.now, worker.clock.real_now)
        await ticks.begin_partition(connection, tick.id, 0, worker.clock.now, worker.clock.real_now)
    await worker.decider.decide([asking_for(RECONCILE, tick)])
    work = Reconciler(Reconciling(stripe, worker.decider, CATALOGUE, repairs=0), worker.decider, worker.metrics)
    crew = StepCrew(work, worker.decider, Together(worker.decider), worker.metrics)
    for job in await crew.claim(1):
        await crew.carry_out(job)
    [(state,)] = await worker.fetch("SELECT state FROM steps WHERE kind = 'reconcile'")
    return str(state)


async def test_ms_10_the_sweep_reports_to_its_tick_and_to_the_metrics(worker: Acting) -> None:
    await known_here(worker, "ada")
    assert await step(worker, FakeListing(subscriptions=[at_stripe("ada", status="unpaid")])) == "done"
    async with worker.decider.pool.acquire() as connection:
        status = await ticks.status_of(connection, 1)
    assert status
    counts = status.counts[RECONCILE]
    assert (counts["compared"], counts["found"], counts["different"]) == (1, 1, 1)
    assert worker.metrics.reconcile_findings.labels("different")._value.get() == 1


async def test_ms_10_the_hourly_tick_reconciles_once_a_day(worker: Acting) -> None:
    states = []
    for _ in range(3):
        states.append(await step(worker, FakeListing(), "hourly"))
        worker.clock.now += 12 * HOUR
        worker.clock.real_now += 12 * HOUR
    assert states == ["done", "dropped", "done"]
    assert await step(worker, FakeListing()) == "done", "asked for by name it runs"


async def test_ms_10_what_no_read_can_change_uses_up_none_of_the_bound(worker: Acting) -> None:
    """A second live subscription is reported each time: the first one stays (KC-30)."""
    await known_here(worker, "ada", "eve", "mallory", last_read_at=NOW + SECOND)
    beside = [at_stripe(user, id=f"sub_{user}_2") for user in ("ada", "eve")]
    fitting = [at_stripe(user) for user in ("ada", "eve")]
    stripe = FakeListing(subscriptions=[*beside, *fitting, at_stripe("mallory", status="past_due")])

    report = await reconciled(worker, stripe, repairs=1)

    assert (report.counts[FindingKind.MISSING_HERE], report.repairs_asked) == (2, 1)
    reads = await worker.fetch("SELECT account_key FROM steps WHERE kind = 'read_subscriptions'")
    assert reads == [("user:mallory",)]


async def test_stripe_away_changes_nothing_and_the_step_waits(worker: Acting) -> None:
    stripe = FakeListing(failures=[Retryable("Stripe did not answer in time")])
    assert await step(worker, stripe) == "due"
    assert await worker.fetch("SELECT * FROM reconciled") == []
