import asyncio

import pytest

from bursar.service.processes.supervision import TaskState, pause_seconds, supervise, wait_or_stop


class HandClock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def no_pause(crashes_in_a_row: int) -> float:  # noqa: ARG001 - the signature of a pause
    return 0.0


async def test_work_that_crashes_is_started_again() -> None:
    stop = asyncio.Event()
    starts: list[int] = []

    async def run(stop: asyncio.Event) -> None:
        starts.append(1)
        if len(starts) < 4:
            raise ValueError("crash")
        stop.set()

    await supervise("work", run, stop, pause=no_pause)
    assert len(starts) == 4


async def test_work_that_ends_by_itself_is_started_again() -> None:
    stop = asyncio.Event()
    starts: list[int] = []

    async def run(stop: asyncio.Event) -> None:
        starts.append(1)
        if len(starts) == 3:
            stop.set()

    await supervise("work", run, stop, pause=no_pause)
    assert len(starts) == 3


async def test_a_stop_ends_the_pause() -> None:
    stop = asyncio.Event()
    crashed = asyncio.Event()

    async def run(stop: asyncio.Event) -> None:  # noqa: ARG001 - it crashes before it could be told
        crashed.set()
        raise ValueError("crash")

    supervised = asyncio.create_task(supervise("work", run, stop, pause=lambda _crashes: 3600.0))
    await crashed.wait()
    stop.set()
    async with asyncio.timeout(5):
        await supervised


async def test_cancelling_is_not_a_crash() -> None:
    state = TaskState("work")
    running = asyncio.Event()

    async def run(stop: asyncio.Event) -> None:
        running.set()
        await stop.wait()

    supervised = asyncio.create_task(supervise("work", run, asyncio.Event(), state=state))
    await running.wait()
    supervised.cancel()
    with pytest.raises(asyncio.CancelledError):
        await supervised
    assert state.crashes_in_a_row == 0


def test_work_is_up_once_it_runs() -> None:
    state = TaskState("work")
    before = state.is_up
    state.starts()
    assert (before, state.is_up) == (False, True)


def test_work_is_up_again_only_once_it_has_run_for_a_while() -> None:
    clock = HandClock()
    state = TaskState("work", clock)
    state.starts()
    state.crashes(ValueError("crash"))
    paused = state.is_up
    state.starts()
    started = state.is_up
    clock.seconds += 1.0
    assert (paused, started, state.is_up) == (False, False, True)
    assert state.error == "ValueError"


def test_the_pauses_begin_anew_after_a_quiet_while() -> None:
    clock = HandClock()
    state = TaskState("work", clock)
    for _ in range(5):
        state.starts()
        state.crashes(None)
    assert state.crashes_in_a_row == 5
    state.starts()
    clock.seconds += 10.0
    state.crashes(None)
    assert state.crashes_in_a_row == 1


def test_pauses_grow_and_are_bounded() -> None:
    assert [pause_seconds(crashes, lambda: 0.0) for crashes in (1, 2, 3, 7, 100)] == [0.1, 0.2, 0.4, 5.0, 5.0]
    assert pause_seconds(100, lambda: 1.0) == 7.5


async def test_waiting_says_whether_it_was_told_to_stop() -> None:
    stop = asyncio.Event()
    assert not await wait_or_stop(stop, 0.0)
    stop.set()
    assert await wait_or_stop(stop, 3600.0)
