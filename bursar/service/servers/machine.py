"""Looks at this machine: which programs, users and rights there are."""

import os
import pwd
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

from bursar.billing.values import Value
from bursar.service.servers.origins import Facts

DOCKER_ANSWER_SECONDS = 3
DOCKER_HOST = "unix:///var/run/docker.sock"
POSTGRES_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
RABBITMQ_FOLDERS = ("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin", "/opt/homebrew/opt/rabbitmq/sbin")


class Owner(Value):
    """The system user that private servers run as. `initdb` and `postgres` refuse root."""

    uid: int
    gid: int


def observe(environment: Mapping[str, str], *, with_rabbitmq: bool = True) -> Facts:
    """What there is; Docker is not asked where the environment names every server that is wanted."""
    database_url, amqp_url = bool(environment.get("DATABASE_URL")), bool(environment.get("AMQP_URL"))
    names_all = database_url and (amqp_url or not with_rabbitmq)
    return Facts(
        database_url=database_url,
        amqp_url=amqp_url,
        docker=not names_all and docker_answers(environment.get("DOCKER_HOST") or DOCKER_HOST),
        postgres=find_postgres() is not None,
        rabbitmq=find_rabbitmq() is not None,
        apt=os.geteuid() == 0 and shutil.which("apt-get") is not None,
    )


def docker_answers(host: str) -> bool:
    """Whether a Docker engine of this machine answers at `unix://…`.

    A remote one does not count: the ports of its containers would not be on our loopback address.
    """
    if not host.startswith("unix://"):
        return False
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(DOCKER_ANSWER_SECONDS)
            connection.connect(host.removeprefix("unix://"))
            connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            return b" 200 " in connection.recv(64)
    except OSError:
        return False


def find_postgres() -> Path | None:
    """The folder with `postgres` and `initdb`: the newest installed, else the one on the path."""
    return _find_folder(POSTGRES_FOLDERS, "postgres", "initdb")


def find_rabbitmq() -> Path | None:
    """The server's own script. Debian's wrapper on the path changes the user, so the folders come first."""
    folder = _find_folder(RABBITMQ_FOLDERS, "rabbitmq-server")
    return folder / "rabbitmq-server" if folder else None


def _find_folder(patterns: tuple[str, ...], *programs: str) -> Path | None:
    installed = [folder for pattern in patterns for folder in Path("/").glob(pattern.removeprefix("/"))]
    on_path = [Path(program).resolve().parent for program in [shutil.which(programs[0])] if program]
    for folder in [*sorted(installed, key=_version, reverse=True), *on_path]:
        if all(os.access(folder / program, os.X_OK) for program in programs):
            return folder
    return None


def _version(folder: Path) -> tuple[int, ...]:
    digits = "".join(char if char.isdigit() else " " for char in str(folder))
    return tuple(int(part) for part in digits.split())


def server_owner() -> Owner | None:
    """Whom private servers run as: ourselves (None), or, where we are root, `postgres` or `nobody`."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Owner(entry.pw_uid, entry.pw_gid)
    return None
