"""Processes of our own command as parts of another one: restarted when they die, gone when their parent is."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Mapping, Sequence

import structlog

from bursar.billing.errors import BursarError
from bursar.billing.values import Value

log = structlog.get_logger()

KILL_AFTER_DRAIN_SECONDS = 5.0


class ChildEnded(BursarError):
    """A child process ended though nobody had told it to."""


class Child(Value):
    """`bursar COMMAND` with this environment. It drains on a stop, and ends with its parent, even by `kill -9`."""

    command: Sequence[str]
    environment: Mapping[str, str]
    drain_seconds: float

    async def run(self, stop: asyncio.Event) -> None:
        """Start it and wait for its end. Raises `ChildEnded` when it ends before `stop`."""
        process = await self._start()
        ended = asyncio.create_task(process.wait())
        stopping = asyncio.create_task(stop.wait())
        log.info("child started", command=self.command[0], pid=process.pid)
        try:
            await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not stop.is_set():
                raise ChildEnded(f"`bursar {self.command[0]}` ended with exit code {process.returncode}")
        finally:
            stopping.cancel()
            await self._end(process)
            await ended

    async def _start(self) -> asyncio.subprocess.Process:
        """In a session of its own: a terminal's Ctrl-C is the parent's to pass on, once."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bursar.service.cli",
            *self.command,
            "--exit-with-parent",
            env=dict(self.environment),
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
        )

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """Tell it to drain; kill it when it takes longer than its grace."""
        with contextlib.suppress(ProcessLookupError):
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(self.drain_seconds + KILL_AFTER_DRAIN_SECONDS):
                await process.wait()
        except TimeoutError:
            log.warning("child killed", command=self.command[0], pid=process.pid)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
