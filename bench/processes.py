"""Processes of the bench: started, watched in /proc, and ended with their children."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from bursar.billing.values import Value

PROC = Path("/proc")
END_SECONDS = 5.0
KILOBYTE = 1024


class ProcessFailed(Exception):
    """A process of a contender ended when it should not have, or badly."""


class Usage(Value):
    """Of some processes together: what they took of the processors so far, and of memory now (shared pages shared)."""

    cpu_seconds: float
    memory_bytes: int


@asynccontextmanager
async def running(
    command: Sequence[str], environment: Mapping[str, str], log: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process in a session of its own, and all it started, until the block ends. Its errors go to `log`."""
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *command, env=dict(environment), stdout=asyncio.subprocess.PIPE, stderr=errors, start_new_session=True
        )
    try:
        yield process
    finally:
        await _end(process)


async def finished(command: Sequence[str], environment: Mapping[str, str], log: Path, limit_seconds: float) -> None:
    """Run it to its end; ProcessFailed unless that is a good one in time."""
    async with running(command, environment, log) as process:
        try:
            code = await asyncio.wait_for(process.wait(), limit_seconds)
        except TimeoutError:
            raise ProcessFailed(f"{' '.join(command[2:5])} took more than {limit_seconds:.0f} s; see {log}") from None
    if code:
        raise ProcessFailed(f"{' '.join(command[2:5])} ended with {code}; see {log}")


async def _end(process: asyncio.subprocess.Process) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), END_SECONDS)
            break
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # its children


def usage(roots: Iterable[int]) -> Usage:
    """Of these processes and all below them; those that are gone took nothing."""
    pids = _tree(set(roots))
    return Usage(sum(map(_cpu_seconds_of, pids)), sum(map(_memory_bytes_of, pids)))


def cpu_seconds(roots: Iterable[int]) -> float:
    """Likewise, without their memory: adding up the servers' takes 50 ms of a processor."""
    return sum(map(_cpu_seconds_of, _tree(set(roots))))


def roots_in(folder: Path) -> set[int]:
    """The processes whose command line names something in that folder, as the private servers' do."""
    named = os.fsencode(folder) + b"/"
    return {pid for pid in _pids() if named in _bytes(pid, "cmdline")}


def _cpu_seconds_of(pid: int) -> float:
    fields = _bytes(pid, "stat").rpartition(b")")[2].split()
    ticks = sum(map(int, fields[11:15]))  # its own and its ended children's, in user and in system mode
    return ticks / os.sysconf("SC_CLK_TCK")


def _memory_bytes_of(pid: int) -> int:
    proportional = [line for line in _bytes(pid, "smaps_rollup").splitlines() if line.startswith(b"Pss:")]
    return int(proportional[0].split()[1]) * KILOBYTE if proportional else 0


def _tree(roots: set[int]) -> set[int]:
    children: dict[int, list[int]] = {}
    for pid in _pids():
        fields = _bytes(pid, "stat").rpartition(b")")[2].split()
        if fields:
            children.setdefault(int(fields[1]), []).append(pid)
    found, waiting = set[int](), list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, [])
    return found


def _pids() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def _bytes(pid: int, name: str) -> bytes:
    try:
        return (PROC / str(pid) / name).read_bytes()
    except OSError:
        return b""
