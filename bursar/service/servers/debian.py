"""Installs the servers with apt-get, on Debian or Ubuntu as root."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from bursar.service.servers.errors import ServersUnavailable
from bursar.service.servers.machine import find_postgres, find_rabbitmq

INSTALL_SECONDS = 600.0
LOCK_WAIT = "DPkg::Lock::Timeout=300"  # seconds; another caller may be installing


def install_missing(log: Path, progress: Callable[[str], None], *, with_rabbitmq: bool = True) -> None:
    """Raises ServersUnavailable when the servers are still missing afterwards."""
    missing = _missing(with_rabbitmq=with_rabbitmq)
    if missing:
        progress(f"Installing {' and '.join(missing)} with apt-get (about half a minute)")
        # An unreachable third-party source fails the update and does not matter here.
        _apt_get(log, "update")
        _apt_get(log, "install", "--yes", "--no-install-recommends", *missing)
    if _missing(with_rabbitmq=with_rabbitmq):
        raise ServersUnavailable(f"apt-get could not install {' and '.join(missing)}; see {log}.")


def _missing(*, with_rabbitmq: bool) -> list[str]:
    """Debian's packages."""
    return [
        *([] if find_postgres() else ["postgresql"]),
        *([] if find_rabbitmq() or not with_rabbitmq else ["rabbitmq-server"]),
    ]


def _apt_get(log: Path, *arguments: str) -> None:
    with log.open("ab") as output:
        subprocess.run(  # noqa: S603 - fixed arguments
            ["/usr/bin/apt-get", "--quiet", "--option", LOCK_WAIT, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            timeout=INSTALL_SECONDS,
            check=False,
        )
