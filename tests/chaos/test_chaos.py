"""`make chaos` in its short form: real processes and servers, disturbed while they work (MS-1 to MS-6)."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from bursar.service.demo.lives import CHECKOUT

pytestmark = [pytest.mark.lengthy, pytest.mark.timeout(400)]

EVENTS, USERS, SECONDS = 400, 40, 10
KILLS = {"worker killed", "web killed", "scheduler killed"}
RESTARTS = {"PostgreSQL restarted", "RabbitMQ restarted", "PostgreSQL killed", "RabbitMQ killed"}


async def chaos(*options: str) -> tuple[int | None, bytes, bytes]:
    """Its exit code, standard output and standard error; on servers of its own, whatever the environment names."""
    environment = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "AMQP_URL"}}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bursar.service.chaos", *options),
        cwd=CHECKOUT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await process.communicate()
    return process.returncode, said, complained


async def test_ms_2_ms_3_nothing_is_lost_or_doubled_while_processes_die_and_servers_restart(tmp_path: Path) -> None:
    course = (f"--events={EVENTS}", f"--users={USERS}", f"--seconds={SECONDS}", "--hours=0", "--seed=3")
    exit_code, said, complained = await chaos(*course, f"--logs={tmp_path}", "--json")
    assert exit_code == 0, complained.decode()[-4_000:]
    report: dict[str, Any] = orjson.loads(said)
    assert report["verdict"]["ok"]
    assert report["events"]["accepted"] == report["events"]["different"] == EVENTS
    took_place = {one["kind"] for one in report["disturbances"]}
    assert took_place & KILLS
    assert took_place & RESTARTS
    assert report["ended_by_themselves"] == {}


async def test_too_few_events_are_refused_in_one_sentence() -> None:
    exit_code, _, complained = await chaos("--events=10", "--users=40")
    assert exit_code == 2
    assert complained.startswith(b"chaos: too few events")
