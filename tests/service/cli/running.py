"""Runs `bursar` as a user does: a process, its exit code and what it printed."""

import os
import subprocess
import sys

from bursar.billing.values import Value

TIMEOUT_SECONDS = 60


class Ran(Value):
    """How a command ended."""

    exit_code: int
    out: str
    err: str


def bursar(*arguments: str, **environment: str) -> Ran:
    """Run `bursar` with these arguments in an environment that holds nothing else of ours; nobody answers it."""
    return bursar_reading(subprocess.DEVNULL, *arguments, **environment)


def bursar_reading(stdin: int, *arguments: str, **environment: str) -> Ran:
    """Likewise, with that standard input."""
    done = subprocess.run(
        [sys.executable, "-m", "bursar.service.cli", *arguments],
        env={"PATH": os.environ["PATH"], "COLUMNS": "200", **environment},
        capture_output=True,
        stdin=stdin,
        text=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
    )
    return Ran(done.returncode, done.stdout, done.stderr)
