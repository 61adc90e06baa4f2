"""A private PostgreSQL under an instance's folder."""

import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from bursar.service.servers.errors import ServersUnavailable
from bursar.service.servers.guarded import Command, GuardedProcess, wait_until_ready
from bursar.service.servers.instance import Instance, empty
from bursar.service.servers.probes import LOOPBACK, free_port, postgres_answers

USER = DATABASE = "bursar"
READY_SECONDS = 60.0
STOP_GRACE_SECONDS = 15.0
INITDB_SECONDS = 120.0
MAX_START_TRIES = 3  # another process may take the port between choosing and listening
MAX_CONNECTIONS = 200
SHARED_BUFFERS_MB = 256


class PrivatePostgres:
    """PostgreSQL on a port of its own, listening on the loopback address only, with a random password.

    An instance that is not durable runs with `fsync` off: a crash of the server loses nothing, one of the machine may.
    """

    def __init__(self, instance: Instance, programs: Path, *, shared_buffers_mb: int = SHARED_BUFFERS_MB) -> None:
        self._instance = instance
        self._programs = programs
        self._shared_buffers_mb = shared_buffers_mb
        self._process = GuardedProcess(instance)
        self._port = 0

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{self._instance.secret('postgres-password')}@{LOOPBACK}:{self._port}/{DATABASE}"

    def start(self) -> None:
        """The first start chooses the port and makes the data; later ones keep both."""
        if self._port:
            self._run(self._port)
            return
        self._process.evict("postgres")
        self._make_data()
        for tries_left in reversed(range(MAX_START_TRIES)):
            port = free_port()
            try:
                self._run(port)
            except ServersUnavailable:
                if not tries_left:
                    raise
            else:
                self._port = port
                return

    def stop(self) -> None:
        self._process.stop()

    def kill(self) -> None:
        self._process.kill()

    @property
    def _home(self) -> Path:
        return self._instance.owned_folder("postgres")

    def _run(self, port: int) -> None:
        self._process.evict("postgres")
        # Nobody holds the lock, so a pid file is left over, and its number may be another process by now.
        (self._home / "data" / "postmaster.pid").unlink(missing_ok=True)
        self._process.start(self._command(port))
        if not wait_until_ready(self._process, lambda: postgres_answers(port, USER, DATABASE), READY_SECONDS):
            self._process.kill()
            raise ServersUnavailable(f"PostgreSQL did not start; see {self._instance.folder / 'postgres.log'}.")

    def _command(self, port: int) -> Command:
        durability = {} if self._instance.durable else {"fsync": "off", "full_page_writes": "off"}
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(port),
            "unix_socket_directories": "",
            "max_connections": str(MAX_CONNECTIONS),
            "shared_buffers": f"{self._shared_buffers_mb}MB",
            "max_wal_size": "2GB",
            **durability,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return Command(
            name="postgres",
            arguments=(str(self._programs / "postgres"), "-D", str(self._home / "data"), *options),
            environment=_environment(self._home),
            stop_signal=signal.SIGINT,  # fast shutdown: open sessions are ended
            grace_seconds=STOP_GRACE_SECONDS,
        )

    def _make_data(self) -> None:
        """Makes the data aside and renames it when whole, so that a crash in between leaves nothing half made."""
        home = self._home
        if not self._instance.durable:
            empty(home / "data")
        if (home / "data").exists():
            return
        fresh = home / "fresh"
        empty(fresh)
        password = home / "password"
        password.touch(mode=0o600)
        password.write_text(self._instance.secret("postgres-password"))
        self._instance.give(password)
        self._call("initdb", f"--pgdata={fresh}", f"--username={USER}", f"--pwfile={password}", "--auth=scram-sha-256",
                   "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")  # fmt: skip
        self._call("postgres", "--single", "-D", str(fresh), "postgres", order=f"CREATE DATABASE {DATABASE}\n")
        password.unlink()
        fresh.rename(home / "data")

    def _call(self, program: str, *arguments: str, order: str = "") -> None:
        owner = self._instance.owner
        log = self._instance.folder / "postgres.log"
        with log.open("ab") as output:
            done = subprocess.run(  # noqa: S603 - PostgreSQL's own programs
                [self._programs / program, *arguments],
                input=order.encode(),
                stdout=output,
                stderr=output,
                env=dict(_environment(self._home)),
                cwd=self._home,
                user=owner.uid if owner else None,
                group=owner.gid if owner else None,
                extra_groups=[] if owner else None,
                timeout=INITDB_SECONDS,
                check=False,
            )
        if done.returncode:
            raise ServersUnavailable(f"PostgreSQL's {program} failed; see {log}.")


def _environment(home: Path) -> Mapping[str, str]:
    return {"PATH": "/usr/bin:/bin", "HOME": str(home), "LANG": "C", "TZ": "UTC"}
