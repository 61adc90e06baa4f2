"""A server process under its guard, and the eviction of one that an earlier caller left behind."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from bursar.billing.values import Value
from bursar.service.servers import guard
from bursar.service.servers.errors import ServersUnavailable
from bursar.service.servers.instance import Instance, try_lock

POLL_SECONDS = 0.02
EVICT_KINDLY_SECONDS = 15.0  # the guard of a killed caller stops its server by itself within this
EVICT_SECONDS = 30.0


class Command(Value):
    """What to run and how it is stopped: `stop_signal`, then SIGKILL after `grace_seconds`."""

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    stop_signal: signal.Signals
    grace_seconds: float


class GuardedProcess:
    """One server process of an instance. Not thread-safe: one caller starts and stops it."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._guard: subprocess.Popen[bytes] | None = None

    def start(self, command: Command) -> None:
        """Starts the command; one left over from an earlier caller is stopped first. Output goes to `{name}.log`."""
        self.evict(command.name)
        lock, pid_file = self._files(command.name)
        with (self._instance.folder / f"{command.name}.log").open("ab") as log:
            self._guard = subprocess.Popen(  # noqa: S603 - our own program
                [*self._guard_arguments(command, lock, pid_file), "--", *command.arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=dict(command.environment),
                cwd="/",
                start_new_session=True,
            )

    def evict(self, name: str) -> None:
        """Returns when no process of an earlier server of this name is left."""
        evict(*self._files(name))

    @property
    def running(self) -> bool:
        return self._guard is not None and self._guard.poll() is None

    def stop(self) -> None:
        self._end(b"")

    def kill(self) -> None:
        """Ends the server as a power cut would: no chance to tidy up."""
        self._end(guard.KILL_AT_ONCE)

    def _end(self, order: bytes) -> None:
        if self._guard is None:
            return
        # `communicate` closes the input, which is the order to stop; a server that is gone already has no reader.
        with contextlib.suppress(BrokenPipeError):
            self._guard.communicate(order)
        self._guard.wait()
        self._guard = None

    def _files(self, name: str) -> tuple[Path, Path]:
        return self._instance.folder / f"{name}.lock", self._instance.folder / f"{name}.pid"

    def _guard_arguments(self, command: Command, lock: Path, pid_file: Path) -> list[str]:
        owner = self._instance.owner
        rights = [f"--uid={owner.uid}", f"--gid={owner.gid}"] if owner else []
        return [
            *(sys.executable, "-I", guard.__file__),
            *(f"--lock={lock}", f"--pid-file={pid_file}"),
            *(f"--stop-signal={int(command.stop_signal)}", f"--grace-seconds={command.grace_seconds}"),
            *rights,
        ]


def evict(lock: Path, pid_file: Path) -> None:
    """Waits until no process of an earlier server holds the lock.

    A server whose guard is gone, or takes too long, is killed. Its process id is safe to use while the lock is held:
    the holder is that server or a child of it.
    """
    started = time.monotonic()
    with lock.open("a") as file:
        while not try_lock(file.fileno()):
            waited_seconds = time.monotonic() - started
            if waited_seconds > EVICT_SECONDS:
                raise ServersUnavailable(f"An earlier server still holds {lock}; end it and try again.")
            if waited_seconds > EVICT_KINDLY_SECONDS or not _guard_is_there(pid_file):
                _kill_group(pid_file)
            time.sleep(POLL_SECONDS)


def _guard_is_there(pid_file: Path) -> bool:
    """True while the guard runs, or has not yet written its id."""
    try:
        os.kill(int(pid_file.read_text().split()[0]), 0)
    except ProcessLookupError:
        return False
    except (FileNotFoundError, PermissionError, IndexError, ValueError):
        return True
    return True


def _kill_group(pid_file: Path) -> None:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, IndexError, ValueError):
        os.killpg(int(pid_file.read_text().split()[1]), signal.SIGKILL)


def wait_until_ready(process: GuardedProcess, ready: Callable[[], bool], limit_seconds: float) -> bool:
    """True once `ready` holds; False when the process ended or the time is over."""
    deadline = time.monotonic() + limit_seconds
    while time.monotonic() < deadline and process.running:
        if ready():
            return True
        time.sleep(POLL_SECONDS)
    return False
