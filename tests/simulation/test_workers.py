"""Several processes play; whatever happens none of them is left, and no database."""

import asyncio
import multiprocessing
import os
import pickle
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import closing
from typing import Any

import asyncpg
import pytest

from bursar.service.servers import Servers
from bursar.service.simulation.invariants import Broken
from bursar.service.simulation.playground import PREFIX, databases
from bursar.service.simulation.running import Outcome, Plan
from bursar.service.simulation.session import WorkerEnded, in_order, simulate
from tests.simulation.playing import COMMAND, ROOT, environment

pytestmark = pytest.mark.lengthy

LIMIT_SECONDS = 60.0
POLL_SECONDS = 0.05
PLANS = [Plan(seed, 100) for seed in range(100)]


class Team(Executor):
    """Plays nothing: the last that was handed over ends first."""

    def __init__(self) -> None:
        self.handed: list[tuple[Plan, Future[Outcome]]] = []

    def submit(self, _: Callable[..., Any], /, *args: Any, **__: Any) -> "Future[Any]":
        future: Future[Outcome] = Future()
        self.handed.append((args[0], future))
        if len(self.handed) % 5 == 0:
            for plan, ended in reversed(self.handed[-5:]):
                ended.set_result(Outcome(plan, "", Counter(), Counter(), ()))
        return future


def test_outcomes_come_in_the_order_of_their_seeds_and_few_seeds_are_begun_ahead() -> None:
    team = Team()
    with closing(in_order(team, PLANS, 4)) as outcomes:
        assert [next(outcomes).plan.seed for _ in range(6)] == [0, 1, 2, 3, 4, 5]
        assert len(team.handed) == 10
        assert next(outcomes).plan.seed == 6
    assert [future.cancelled() for _, future in team.handed] == [False] * 10 + [True]


def test_a_failure_comes_whole_from_another_process() -> None:
    broken = pickle.loads(pickle.dumps(Broken("KC-2", "a user has one live instance", "two")))  # noqa: S301 - our own

    assert (broken.rule, broken.found, str(broken)) == (
        "KC-2",
        "two",
        "KC-2: a user has one live instance. Found: two",
    )


def test_a_worker_that_is_killed_is_told_and_the_others_end(servers: Servers) -> None:
    def kill_one(_: Outcome) -> None:
        os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)

    with (
        databases(servers.database_url, 2) as addresses,
        pytest.raises(WorkerEnded, match=r"^A worker process of the simulation was killed, at seed \d"),
    ):
        simulate(addresses, PLANS, kill_one)

    until(lambda: not multiprocessing.active_children())


def test_ctrl_c_leaves_neither_processes_nor_databases(servers: Servers) -> None:
    with subprocess.Popen(
        [*COMMAND, "--seeds", "1000", "--jobs", "2"],
        cwd=ROOT,
        env=environment(servers.database_url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as command:
        until(lambda: asyncio.run(number_of(servers, AT_PLAY)) == 2)
        os.killpg(command.pid, signal.SIGINT)
        _, errors = command.communicate(timeout=LIMIT_SECONDS)

    assert command.returncode
    assert b"Traceback" not in errors
    assert asyncio.run(number_of(servers, "SELECT count(*) FROM pg_database WHERE starts_with(datname, $1)")) == 0
    until(lambda: not is_anybody_left(command.pid))


AT_PLAY = """
    SELECT count(DISTINCT datname) FROM pg_stat_activity
    WHERE starts_with(datname, $1) AND application_name = 'bursar simulate'
"""


async def number_of(servers: Servers, query: str) -> int:
    connection = await asyncpg.connect(servers.database_url)
    try:
        found: int = await connection.fetchval(query, PREFIX)
    finally:
        await connection.close()
    return found


def is_anybody_left(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(POLL_SECONDS)
