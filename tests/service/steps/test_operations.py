"""Operations on a real database: whoever comes after a crash finishes or undoes them, under the same keys."""

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from bursar.billing.errors import Permanent, Refused, Retryable
from bursar.billing.steps import Step, StepKind
from bursar.db import steps
from bursar.db.items import OutcomeState
from bursar.db.steps import Wanted
from bursar.service.steps.bounds import LEASE
from bursar.service.steps.operations import GIVE_UP_AFTER, KEYS_LIVE
from tests.service.steps.operating import (
    Crash,
    Operating,
    a_lease,
    keeping_the_schedule,
    operating,
    selling,
    spent,
)

FORWARD = ["invoice", "item", "pay"]
BACK = ["invoice", "item", "undo:1:item", "undo:0:invoice"]
DECLINED = {"pay": "card_declined"}
KEEP = StepKind.KEEP_SCHEDULE
BEATS = 40  # more than an operation has


async def die_once(worker: Operating) -> bool:
    """Let the process die in the middle, then its lease end; False when it lived."""
    try:
        await worker.work()
    except Crash:
        worker.clock.readings_left = None
        worker.clock.real_now += LEASE + timedelta(seconds=1)
        return True
    return False


@pytest.mark.parametrize("refusals", [{}, DECLINED])
async def test_a_crash_before_any_entry_of_the_journal_loses_and_doubles_nothing(
    database_url: str, refusals: dict[str, str]
) -> None:
    async with operating(database_url) as worker:
        worker.calls.refusals = refusals
        for beat in range(BEATS):
            worker.calls.effects.clear()
            await worker.decider.decide([selling(f"command:{beat}")])
            worker.clock.readings_left = beat
            died = await die_once(worker)
            worker.clock.readings_left = None
            await worker.work()
            assert worker.calls.done == (BACK if refusals else FORWARD), beat
            assert (await worker.step())[0] == "done"
            if not died:
                break
        assert 8 < beat < BEATS - 1


@pytest.mark.parametrize("when", ["crash_before", "crash_after"])
@pytest.mark.parametrize("call", ["look", *BACK, "pay"])
async def test_a_crash_around_any_call_makes_it_under_one_key(database_url: str, when: str, call: str) -> None:
    async with operating(database_url) as worker:
        worker.calls.refusals = DECLINED if call.startswith("undo:") else {}
        setattr(worker.calls, when, call)
        await worker.decider.decide([selling()])
        assert await die_once(worker) is not (call == "look" and when == "crash_after")
        await worker.work()

        assert worker.calls.done == (BACK if worker.calls.refusals else FORWARD)
        assert (await worker.step())[0] == "done"


async def test_the_end_is_applied_and_kept_for_whoever_asks(database_url: str) -> None:
    async with operating(database_url) as worker:
        await worker.decider.decide([selling()])
        await worker.work()
        assert await worker.step() == ("done", {"result": {"paid": "pay_1"}}, None)
        assert (await worker.name(), await worker.reads()) == ("sold", 0)


async def test_a_failure_is_told_applied_and_followed_by_a_read(database_url: str) -> None:
    async with operating(database_url) as worker:
        worker.calls.refusals = DECLINED
        await worker.decider.decide([selling()])
        await worker.work()
        state, result, _ = await worker.step()
        assert (state, result["failure"]["code"], result["failure"]["status"]) == ("done", "stripe_refused", 502)
        assert (await worker.name(), await worker.reads()) == ("stripe_refused", 1)


async def test_what_stripe_will_not_take_back_is_an_operators(database_url: str) -> None:
    async with operating(database_url) as worker:
        worker.calls.refusals = DECLINED | {"undo:1:item": "no"}
        await worker.decider.decide([selling()])
        await worker.work()
        state, result, error = await worker.step()
        assert (state, error) == ("failed", "not taken back: undo:1:item")
        assert result["failure"]["code"] == "stripe_refused"
        assert "undo:0:invoice" in worker.calls.done
        assert await worker.reads() == 1


async def test_what_can_go_neither_on_nor_back_is_an_operators_and_is_read(database_url: str) -> None:
    async with operating(database_url) as worker:
        worker.calls.failures = {"item": [Permanent("the key is of another mode")]}
        await worker.decider.decide([selling()])
        await worker.work()
        state, result, error = await worker.step()
        assert (state, error) == ("failed", "Permanent: the key is of another mode")
        assert worker.metrics.steps_failed.labels("operation")._value.get() == 1
        assert result["failure"]["code"] == "operation_failed"
        assert await worker.reads() == 1
        assert (await worker.decider.decide([selling("command:2")]))[0].state is OutcomeState.APPLIED


async def test_ms_11_a_spent_key_makes_a_new_round_that_looks_first(database_url: str) -> None:
    async with operating(database_url) as worker:
        worker.calls.failures = {"invoice": [spent()]}
        await worker.decider.decide([selling()])
        await worker.work()
        assert (await worker.step())[0] == "due"
        worker.calls.invoices = [{"id": "in_1"}]  # it had come about
        worker.clock.real_now += timedelta(minutes=1)
        await worker.work()
        assert worker.calls.made == ["look", "invoice", "look", "item", "pay"]
        assert worker.calls.effects == [
            "item|operation:command:1:1:1:item",
            "pay|operation:command:1:1:1:pay",
        ]


async def test_an_operation_that_nobody_waits_for_any_more_goes_only_back(database_url: str) -> None:
    async with operating(database_url) as worker:
        worker.calls.failures = {"item": [Retryable("time-out")]}
        await worker.decider.decide([selling()])
        await worker.work()
        worker.clock.real_now += GIVE_UP_AFTER + timedelta(seconds=1)
        await worker.work()
        assert worker.calls.done == BACK  # the call in flight is made again, to learn how it went
        assert (await worker.step())[1]["failure"]["code"] == "operation_abandoned"


async def test_a_schedule_is_kept_however_long_it_takes(database_url: str) -> None:
    async with operating(database_url) as worker:
        worker.calls.failures = {"item": [Retryable("time-out")]}
        await worker.decider.decide([keeping_the_schedule()])
        await worker.work(KEEP)
        worker.clock.real_now += GIVE_UP_AFTER * 4
        await worker.work(KEEP)
        assert (await worker.step(KEEP))[0] == "done"


async def test_a_call_whose_key_stripe_has_forgotten_is_not_made_again(database_url: str) -> None:
    async with operating(database_url) as worker:
        worker.calls.crash_after = "item"
        await worker.decider.decide([selling()])
        assert await die_once(worker)
        worker.clock.real_now += KEYS_LIVE
        await worker.work()
        assert worker.calls.done == ["invoice", "item"]
        state, _, error = await worker.step()
        assert state == "failed"
        assert error.startswith("Permanent: item was begun so long ago")


async def test_ms_11_after_a_day_a_kept_schedule_is_looked_at_before_any_call(database_url: str) -> None:
    async with operating(database_url) as worker:
        worker.calls.crash_after = "item"
        await worker.decider.decide([keeping_the_schedule()])
        with pytest.raises(Crash):
            await worker.work(KEEP)
        worker.clock.real_now += KEYS_LIVE + timedelta(minutes=1)
        worker.calls.invoices = [{"id": "in_1"}]
        await worker.work(KEEP)
        assert (await worker.step(KEEP))[0] == "done"
        assert worker.calls.made == ["look", "invoice", "item", "look", "item", "pay"]


async def test_a_lost_lease_stops_before_the_next_call(database_url: str) -> None:
    async with operating(database_url) as worker:

        async def another_takes_it() -> None:
            await worker.fetch("UPDATE steps SET lease = gen_random_uuid() WHERE kind = 'operation'")

        worker.calls.meanwhile = another_takes_it
        await worker.decider.decide([selling()])
        await worker.work()
        assert worker.calls.made == ["look"]
        assert (await worker.step())[0] == "due"


async def test_an_operation_is_born_under_the_lease_of_its_command(database_url: str) -> None:
    async with operating(database_url) as worker:
        await worker.decider.decide([selling(lease=a_lease())])
        assert await worker.fetch("SELECT lease, attempts, due_at FROM steps") == [
            (a_lease().id, 1, worker.clock.real_now + LEASE)
        ]
        assert await worker.work() == 0
        worker.clock.real_now += LEASE
        assert await worker.work() == 1
        assert (await worker.step())[0] == "done"


async def test_of_two_commands_at_once_one_is_refused(database_url: str) -> None:
    async with operating(database_url) as worker:
        outcomes = await asyncio.gather(
            *(worker.decider.decide([selling(f"command:{number}", lease=a_lease())]) for number in range(2))
        )
        ended = [outcome for [outcome] in outcomes]
        assert sorted(one.state for one in ended) == [OutcomeState.APPLIED, OutcomeState.FAILED]
        assert [one.error.code for one in ended if isinstance(one.error, Refused)] == ["operation_in_progress"]

        together = await worker.decider.decide([selling(f"command:{number}") for number in (2, 3)])
        assert {one.state for one in together} == {OutcomeState.FAILED}


async def test_postgres_holds_one_open_operation_for_each_account(database_url: str) -> None:
    async with operating(database_url) as worker, worker.decider.pool.acquire() as connection:
        await worker.decider.decide([selling()])
        wanted = Wanted("user:ada", Step(StepKind.OPERATION, "operation:other"), "command:other")
        with pytest.raises(asyncpg.UniqueViolationError, match="steps_one_operation"):
            await steps.ask(connection, [wanted], worker.clock.real_now)


async def test_a_schedule_is_not_kept_beside_an_open_operation(database_url: str) -> None:
    async with operating(database_url) as worker:
        await worker.decider.decide([keeping_the_schedule(), selling(lease=a_lease())])
        await worker.work(KEEP)
        assert worker.calls.made == []
        assert (await worker.step(KEEP))[2] == "Retryable: an operation of the account is open"
        worker.clock.real_now += LEASE
        await worker.work()
        await worker.work(KEEP)
        assert (await worker.step(KEEP))[0] == "done"


async def test_a_command_is_refused_while_a_schedule_is_being_kept(database_url: str) -> None:
    refused: list[Any] = []
    async with operating(database_url) as worker:

        async def a_command_comes() -> None:
            refused.extend(await worker.decider.decide([selling(f"command:{len(refused)}")]))

        worker.calls.meanwhile = a_command_comes
        await worker.decider.decide([keeping_the_schedule()])
        await worker.work(KEEP)
        assert (await worker.step(KEEP))[0] == "done"
        assert {one.error.code for one in refused} == {"operation_in_progress"}
        assert (await worker.decider.decide([selling("command:later")]))[0].state is OutcomeState.APPLIED


async def test_after_a_pause_a_schedule_is_looked_at_again(database_url: str) -> None:
    async with operating(database_url) as worker:
        worker.calls.failures = {"item": [Retryable("time-out")]}
        await worker.decider.decide([keeping_the_schedule()])
        await worker.work(KEEP)
        worker.calls.invoices = [{"id": "in_1"}]
        worker.clock.real_now += timedelta(minutes=1)
        await worker.work(KEEP)
        assert worker.calls.made == ["look", "invoice", "item", "item", "look", "item", "pay"]


async def test_a_schedule_asked_for_anew_is_kept_as_it_was_asked_for_last(database_url: str) -> None:
    async with operating(database_url) as worker:

        async def asked_again() -> None:
            await worker.decider.decide([keeping_the_schedule("evt_2", "kept otherwise")])

        worker.calls.meanwhile = asked_again
        await worker.decider.decide([keeping_the_schedule()])
        await worker.work(KEEP)
        assert (await worker.step(KEEP))[:2] == ("due", None)
        await worker.work(KEEP)
        assert await worker.name() == "kept otherwise"
