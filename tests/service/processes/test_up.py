"""`bursar up`: one process tree that restarts what dies and leaves nothing behind."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from bursar.service.servers.probes import free_port
from tests.service.processes.running import environment_of, running, said, until

COMMANDS = {"web", "worker", "scheduler"}


def lives(pid: int) -> bool:
    """Whether there is such a process that is not merely waiting to be reaped."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


class Tree:
    """A running `bursar up`, and its children as its log names them."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url
        self.children: dict[str, int] = {}

    async def next_child(self) -> str:
        fields = await said(self.process, "child started")
        self.children[fields["command"]] = int(fields["pid"])
        return fields["command"]

    async def ready(self) -> bool:
        with suppress(httpx.HTTPError):
            async with httpx.AsyncClient() as client:
                return (await client.get(f"{self.url}/readyz")).status_code == 200
        return False

    async def all_gone(self) -> bool:
        return not any(lives(pid) for pid in self.children.values())


@pytest.fixture
async def tree(database_url: str, amqp_url: str, tmp_path: Path) -> AsyncIterator[Tree]:
    port = str(free_port())
    environment = environment_of(database_url, amqp_url, BURSAR_WEB_PORT=port, BURSAR_LOG_FORMAT="json")
    async with running("up", environment, folder=tmp_path) as process:
        started = Tree(process, f"http://127.0.0.1:{port}")
        while started.children.keys() != COMMANDS:
            await started.next_child()
        await until(started.ready)
        yield started


async def test_a_child_that_dies_is_restarted_and_a_stop_takes_all(tree: Tree) -> None:
    killed = tree.children["web"]
    os.kill(killed, signal.SIGKILL)
    assert await tree.next_child() == "web"
    assert tree.children["web"] != killed
    await until(tree.ready)
    tree.process.send_signal(signal.SIGINT)
    async with asyncio.timeout(40):
        await tree.process.communicate()
    assert tree.process.returncode == 0
    assert await tree.all_gone()


async def test_a_killed_parent_leaves_no_orphan(tree: Tree) -> None:
    tree.process.kill()
    await tree.process.communicate()
    await until(tree.all_gone)
