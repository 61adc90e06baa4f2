import asyncio
from collections.abc import Callable

import pytest

from bursar.billing.steps import StepKind
from bursar.service.gateways.instances import CallOutcome
from bursar.service.steps.crew import Crew
from bursar.service.steps.runner import Outside, StepRunner
from tests.billing.kiloclaw.making import CATALOGUE
from tests.service.checks.listing import FakeListing
from tests.service.steps.acting import Acting, acting, suspended_trial

PATIENCE_SECONDS = 10.0


async def until(is_so: Callable[[], bool]) -> None:
    """Give others their turn until it is so; TimeoutError when it does not come about."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not is_so():  # noqa: ASYNC110 - what is awaited has no event
            await asyncio.sleep(0)


def a_runner(worker: Acting) -> StepRunner:
    outside = Outside(
        worker.stripe, worker.stripe, worker.instances, worker.mail, "https://app.example.com", FakeListing()
    )
    return StepRunner(worker.decider, outside, CATALOGUE, worker.metrics)


async def test_kc_60_a_suspension_is_carried_out_at_once_after_its_commit(database_url: str) -> None:
    async with acting(database_url) as worker:
        stop = asyncio.Event()
        running = asyncio.create_task(a_runner(worker).run(stop))
        await suspended_trial(worker)
        await until(lambda: bool(worker.mail.sent and worker.instances.calls))
        stop.set()
        await running  # finishes what is under way

        assert await worker.mails() == [("claw_suspended_trial", "sent")]
        assert await worker.fetch("SELECT done_generation FROM kiloclaw_instances") == [(2,)]
        counted = worker.metrics.instance_calls.labels("stopped", CallOutcome.DONE)
        assert counted._value.get() == 1


async def test_kc_60_a_commit_wakes_those_who_carry_out_what_it_asked_for_and_nobody_else(database_url: str) -> None:
    async with acting(database_url) as worker:
        runner = a_runner(worker)
        assert not any(crew.crew.is_woken for crew in runner.crews)
        await suspended_trial(worker)
        assert {crew.crew.name for crew in runner.crews if crew.crew.is_woken} == {StepKind.SEND_MAIL, "instances"}


async def test_the_figures_of_what_waits_are_measured(database_url: str) -> None:
    async with acting(database_url) as worker, worker.decider.pool.acquire() as connection:
        await suspended_trial(worker)
        await a_runner(worker).measure(connection)

        assert worker.metrics.steps_due._value.get() == 0  # due now, but not overdue by anything
        worker.clock.real_now = worker.clock.real_now.replace(year=worker.clock.real_now.year + 1)
        await a_runner(worker).measure(connection)
        assert worker.metrics.steps_due._value.get() == 1
        assert worker.metrics.unresolved_instances._value.get() == 1


class Jobs:
    """Numbers to work on, and how many were worked on at once."""

    def __init__(self, total: int) -> None:
        self.waiting = list(range(total))
        self.done: list[int] = []
        self.at_once = 0
        self.most_at_once = 0
        self.gate = asyncio.Event()

    async def claim(self, limit: int) -> list[int]:
        taken, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return taken

    async def work(self, job: int) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.gate.wait()
        self.at_once -= 1
        if job == 0:
            raise ValueError(job)
        self.done.append(job)


async def test_a_crew_works_on_no_more_than_its_places_and_goes_on_after_a_crash() -> None:
    jobs, stop = Jobs(50), asyncio.Event()
    crew = Crew[int]("test", 4, jobs.claim, jobs.work)
    running = asyncio.create_task(crew.run(stop))
    await until(lambda: jobs.at_once == 4)
    jobs.gate.set()
    await until(lambda: len(jobs.done) == 49)
    stop.set()
    await running

    assert jobs.most_at_once == 4


async def test_ms_12_a_crew_that_is_told_to_stop_finishes_what_is_under_way() -> None:
    jobs, stop = Jobs(3), asyncio.Event()
    running = asyncio.create_task(Crew[int]("test", 2, jobs.claim, jobs.work).run(stop))
    await until(lambda: jobs.at_once == 2)
    stop.set()
    jobs.gate.set()
    await running

    assert jobs.done == [1]  # the other one crashed
    assert jobs.waiting == [2]  # and nothing new was taken on


async def test_a_cancelled_crew_leaves_nothing_running() -> None:
    jobs = Jobs(2)
    running = asyncio.create_task(Crew[int]("test", 2, jobs.claim, jobs.work).run(asyncio.Event()))
    await until(lambda: jobs.at_once == 2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    jobs.gate.set()
    await asyncio.gather(
        *(task for task in asyncio.all_tasks() if task is not asyncio.current_task()), return_exceptions=True
    )

    assert jobs.done == []
