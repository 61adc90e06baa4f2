import asyncio
from datetime import timedelta
from typing import Any

from bursar.billing.account import Account
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.rows import DesiredState, hosting_of, with_instance
from bursar.billing.values import replace
from bursar.db import instances
from bursar.db.items import Item
from bursar.service.gateways.instances import CallOutcome, CallResult
from bursar.service.steps.bounds import LEASE
from tests.billing.kiloclaw.making import NOW, a_paid_row
from tests.db.deciding import an_item
from tests.service.steps.acting import Acting, acting, having, nothing

BUSY = CallResult(CallOutcome.RETRY, "http_503")


def wanting(state: DesiredState, name: str, user: str = "ada") -> Item:
    def decide(account: Account) -> Decision:
        instance = hosting_of(account).instances[0].wanting(state)
        if state == "destroyed":
            instance = replace(instance, destroying_since=NOW)
        return Decision(with_instance(account, instance))

    return an_item(name, user, decide)


async def an_owner(worker: Acting, state: DesiredState = "stopped", user: str = "ada") -> None:
    await worker.decider.decide([having(a_paid_row(stripe_subscription_id=f"sub_{user}"), user)])
    await worker.decider.decide([wanting(state, f"want-{user}", user)])


async def generations(worker: Acting) -> tuple[Any, ...]:
    return (await worker.fetch("SELECT generation, done_generation FROM kiloclaw_instances"))[0]


async def waits_after_failures(worker: Acting, failures: int) -> list[float]:
    """The distances between calls that fail, in seconds."""
    worker.instances.results = [BUSY] * failures
    waits = []
    for _ in range(failures):
        assert await worker.do_instances() == 1
        due_at = (await worker.fetch("SELECT due_at FROM kiloclaw_instances"))[0][0]
        waits.append((due_at - worker.clock.real_now).total_seconds())
        worker.clock.real_now = due_at - timedelta(seconds=1)
        assert await worker.do_instances() == 0
        worker.clock.real_now = due_at
    return waits


def are_about(waits: list[float], expected: list[float]) -> bool:
    return all(base <= wait <= base * 1.2 for base, wait in zip(expected, waits, strict=True))


async def test_kc_77_the_desired_state_is_brought_about_once(database_url: str) -> None:
    async with acting(database_url) as worker:
        await an_owner(worker)
        assert await worker.do_instances() == 1
        assert await worker.do_instances() == 0

        assert worker.instances.calls == [("inst-ada", "stopped", 2)]
        assert await generations(worker) == (2, 2)
        assert await worker.fetch("SELECT lease FROM kiloclaw_instances") == [(None,)]


async def test_kc_77_a_stop_is_tried_again_with_backoff(database_url: str) -> None:
    async with acting(database_url) as worker:
        await an_owner(worker)
        waits = await waits_after_failures(worker, 11)

    assert are_about(waits, [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600])


async def test_kc_92_a_start_is_tried_again_two_four_and_at_most_24_hours_apart(database_url: str) -> None:
    async with acting(database_url) as worker:
        await an_owner(worker)
        await worker.do_instances()
        await worker.decider.decide([wanting("running", "resumed")])
        waits = [seconds / 3600 for seconds in await waits_after_failures(worker, 6)]

    assert are_about(waits, [2, 4, 8, 16, 24, 24])


async def test_kc_92_a_failed_start_is_shown_to_operators_at_once(database_url: str) -> None:
    async with acting(database_url) as worker, worker.decider.pool.acquire() as connection:
        await an_owner(worker)
        await worker.do_instances()
        await worker.decider.decide([wanting("running", "resumed")])
        worker.instances.results = [BUSY]
        await worker.do_instances()
        (shown,) = await instances.unresolved(connection, worker.clock.real_now - timedelta(hours=24), 10)

    assert (shown.desired_state, shown.attempts, shown.error) == ("running", 1, "http_503")


async def test_kc_77_what_is_not_brought_about_is_shown_to_operators_after_24_hours(database_url: str) -> None:
    async with acting(database_url) as worker, worker.decider.pool.acquire() as connection:
        await an_owner(worker)
        worker.instances.results = [BUSY]
        await worker.do_instances()
        now = worker.clock.real_now
        day = timedelta(hours=24)
        assert await instances.unresolved(connection, now - day, 10) == []
        assert await instances.count_unresolved(connection, now + timedelta(seconds=1)) == 1
        assert [one.id for one in await instances.unresolved(connection, now + timedelta(seconds=1), 10)] == [
            "inst-ada"
        ]


async def test_kc_91_a_new_generation_is_due_at_once_but_waits_for_the_call_under_way(database_url: str) -> None:
    async with acting(database_url) as worker:
        await an_owner(worker)
        other = Acting(worker.decider, worker.clock, instances=worker.instances)

        async def resumed_meanwhile() -> None:
            worker.instances.meanwhile = nothing
            await worker.decider.decide([wanting("running", "resumed")])
            assert await other.do_instances() == 0  # one call at a time

        worker.instances.meanwhile = resumed_meanwhile
        await worker.do_instances()
        assert await generations(worker) == (3, 2)  # the older answer does not count for the newer generation
        await worker.do_instances()

        assert worker.instances.calls == [("inst-ada", "stopped", 2), ("inst-ada", "running", 3)]
        assert await generations(worker) == (3, 3)


async def test_kc_91_a_failure_of_an_older_generation_does_not_delay_the_newer(database_url: str) -> None:
    async with acting(database_url) as worker:
        await an_owner(worker)

        async def resumed_meanwhile() -> None:
            worker.instances.meanwhile = nothing
            await worker.decider.decide([wanting("running", "resumed")])

        worker.instances.meanwhile = resumed_meanwhile
        worker.instances.results = [BUSY]
        await worker.do_instances()
        assert await worker.do_instances() == 1
        assert await generations(worker) == (3, 3)


async def test_kc_91_an_answer_that_comes_after_everything_else_changesnothing(database_url: str) -> None:
    async with acting(database_url) as worker:
        await an_owner(worker)
        frozen = worker.instance_crew()
        (claimed,) = await frozen.claim(1)
        worker.clock.real_now += LEASE
        await worker.decider.decide([wanting("running", "resumed")])
        await worker.do_instances()
        await frozen._record(claimed)  # thawed

        assert await generations(worker) == (3, 3)


async def test_kc_91_a_refused_generation_is_not_taken_for_done(database_url: str) -> None:
    async with acting(database_url) as worker:
        await an_owner(worker)
        worker.instances.results = [CallResult(CallOutcome.SUPERSEDED, "http_412")]
        await worker.do_instances()

        assert await generations(worker) == (2, 1)


async def test_kc_77_a_crash_after_the_call_repeats_it_with_the_same_key_once_the_lease_ends(database_url: str) -> None:
    async with acting(database_url) as worker:
        await an_owner(worker)
        crew = worker.instance_crew()
        (claimed,) = await crew.claim(32)
        await crew._call(claimed)  # and dies here
        assert await worker.do_instances() == 0
        worker.clock.real_now += LEASE
        await worker.do_instances()

        assert worker.instances.calls == [("inst-ada", "stopped", 2)] * 2  # the fake checks the key
        assert await generations(worker) == (2, 2)


async def test_kc_77_two_runners_at_once_share_the_instances(database_url: str) -> None:
    async with acting(database_url) as worker:
        users = [f"user-{number}" for number in range(20)]
        for user in users:
            await an_owner(worker, user=user)
        claims = await asyncio.gather(worker.instance_crew().claim(32), worker.instance_crew().claim(32))

        assert sorted(one.id for claimed in claims for one in claimed) == sorted(f"inst-{user}" for user in users)


async def test_kc_78_one_failing_instance_stops_no_other(database_url: str) -> None:
    async with acting(database_url) as worker:
        for user in ("ada", "eve"):
            await an_owner(worker, user=user)
        worker.instances.results = [BUSY]
        await worker.do_instances()

        query = "SELECT count(*) FROM kiloclaw_instances WHERE generation = done_generation"
        assert await worker.fetch(query) == [(1,)]
