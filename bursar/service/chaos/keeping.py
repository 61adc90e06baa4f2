"""Processes of the service that are started again whenever they end, as a supervisor of the machine's would."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import orjson

from bursar.service.processes.supervision import wait_or_stop

RESTART_SECONDS = 0.2
DRAIN_SECONDS = 10.0
LISTENING = b'"event":"listening"'  # what every process says in its log once it has started


@dataclass(slots=True)
class KeptProcess:
    """`bursar COMMAND`; its log goes to a file. `ended` has the exit codes of ends that nobody asked for."""

    name: str
    command: str
    environment: Mapping[str, str] = field(repr=False)
    log: Path
    starts: int = 0
    ended: list[int] = field(default_factory=list)
    _process: asyncio.subprocess.Process | None = None
    _killed: bool = False
    _log_begins_at: int = 0
    _started_at: datetime | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Keep it running until told to stop; then it drains, and is killed where that takes too long."""
        try:
            while not stop.is_set():
                await self._start()
                await self._wait(stop)
                await wait_or_stop(stop, RESTART_SECONDS)
        finally:
            await self._end()

    def kill(self) -> bool:
        """SIGKILL; False for one that has only just started."""
        self._killed = self._is_up() and self._send(signal.SIGKILL)
        return self._killed

    def pause(self) -> bool:
        """SIGSTOP; likewise."""
        return self._is_up() and self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def _is_up(self) -> bool:
        """Whether it has worked for as long as its start took: killed sooner, it would never work on a slow machine."""
        with self.log.open("rb") as log:
            log.seek(self._log_begins_at)
            said = next((line for line in log if LISTENING in line), None)
        if said is None or self._started_at is None:
            return False
        listening_at = datetime.fromisoformat(orjson.loads(said)["timestamp"])
        return datetime.now(UTC) - listening_at >= listening_at - self._started_at

    def _send(self, number: signal.Signals) -> bool:
        """Past asyncio, whose own way would reap a process that has just ended, and lose its exit code."""
        if self._process is None or self._process.returncode is not None:
            return False
        try:
            os.kill(self._process.pid, number)
        except ProcessLookupError:
            return False
        return True

    async def _start(self) -> None:
        """In a session of its own, and gone when we are: its input ends then."""
        self._killed = False
        with self.log.open("ab") as log:
            self._log_begins_at, self._started_at = log.tell(), datetime.now(UTC)
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bursar.service.cli", self.command, "--exit-with-parent"),
                env=dict(self.environment),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.starts += 1

    async def _wait(self, stop: asyncio.Event) -> None:
        assert self._process, "it was started"
        ended = asyncio.create_task(self._process.wait())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done() and not self._killed and not stop.is_set():
            self.ended.append(ended.result())
        ended.cancel()
        stopping.cancel()

    async def _end(self) -> None:
        if not self._send(signal.SIGCONT):
            return
        assert self._process, "it was sent a signal"
        self._send(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._process.wait()
        if self._send(signal.SIGKILL):
            await self._process.wait()
