"""Runs one server and stops it when whoever asked for it is gone, even by `kill -9`.

A program of its own (standard library only, started by path): it reads its standard input, which ends when the caller
ends. It holds a lock file together with the server and all the server's children, so the lock is free only when
none of them is left.
"""

import argparse
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

KILL_AT_ONCE = b"k"


def main() -> int:
    options = parse(sys.argv[1:])
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A handler, since "ignored" would be inherited by the server and a handler is not.
        signal.signal(ignored, lambda _signal, _frame: None)
    lock = os.open(options.lock, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    server = start(options, lock)
    options.pid_file.write_text(f"{os.getpid()} {server.pid}")
    threading.Thread(target=stop_at_end_of_input, args=(server, options), daemon=True).start()
    return abs(server.wait())


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lock", type=Path, required=True)
    parser.add_argument("--pid-file", type=Path, required=True)
    parser.add_argument("--stop-signal", type=int, required=True)
    parser.add_argument("--grace-seconds", type=float, required=True)
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    parser.add_argument("command", nargs="+")
    return parser.parse_args(arguments)


def start(options: argparse.Namespace, lock: int) -> subprocess.Popen[bytes]:
    """The server leads a session of its own: a terminal's Ctrl-C is the caller's to handle."""
    groups: list[int] | None = None if options.uid is None else []
    return subprocess.Popen(  # noqa: S603 - the caller's own command line
        options.command,
        stdin=subprocess.DEVNULL,
        user=options.uid,
        group=options.gid,
        extra_groups=groups,
        pass_fds=(lock,),
        start_new_session=True,
    )


def stop_at_end_of_input(server: subprocess.Popen[bytes], options: argparse.Namespace) -> None:
    order = sys.stdin.buffer.read(1)
    if order != KILL_AT_ONCE:
        server.send_signal(options.stop_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(options.grace_seconds)
            return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
