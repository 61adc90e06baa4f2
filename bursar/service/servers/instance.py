"""The folder of one set of private servers: found, locked, and usable by the user they run as."""

import fcntl
import hashlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bursar.billing.values import Value
from bursar.service.servers.errors import InstanceInUse
from bursar.service.servers.machine import Owner

MAX_INSTANCES_PER_NAME = 8
SYSTEM_STATE = Path("/var/lib/bursar")


class Instance(Value):
    """A locked folder. `durable` ones keep their data from run to run; others start empty."""

    folder: Path
    owner: Owner | None
    durable: bool

    def owned_folder(self, name: str) -> Path:
        """A folder that belongs to the servers' user, 0700."""
        folder = self.folder / name
        folder.mkdir(mode=0o700, exist_ok=True)
        self.give(folder)
        return folder

    def give(self, path: Path) -> None:
        if self.owner:
            os.chown(path, self.owner.uid, self.owner.gid)

    def secret(self, name: str) -> str:
        """A random secret, 0600; a durable instance keeps it, since its servers know it."""
        path = self.folder / f"{name}.secret"
        if not path.exists():
            write_private(path, secrets.token_urlsafe(24))
        return path.read_text()


def write_private(path: Path, text: str) -> None:
    """Writes `text` for its owner alone, and whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    partial.replace(path)


@contextmanager
def locked_instance(
    root: Path,
    name: str,
    *,
    durable: bool,
    owner: Owner | None,
    progress: Callable[[str], None],
    system_state: Path = SYSTEM_STATE,
) -> Iterator[Instance]:
    """Takes the folder `root/name`; for instances that are not durable, the next free of `name-2` … `name-8`.

    The lock is held by an open file, so the kernel frees it however this process ends.
    """
    place = _usable_root(root, owner, system_state, progress)
    for number in range(1, (1 if durable else MAX_INSTANCES_PER_NAME) + 1):
        folder = place / (name if number == 1 else f"{name}-{number}")
        folder.mkdir(mode=0o755, exist_ok=True)
        with (folder / "lock").open("a") as lock:
            if not try_lock(lock.fileno()):
                continue
            yield Instance(folder, owner, durable)
            return
    raise InstanceInUse(f"The servers in {place / name} are in use by another process; stop it first.")


def try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _usable_root(root: Path, owner: Owner | None, system_state: Path, progress: Callable[[str], None]) -> Path:
    """`root`, unless the servers' user cannot get there (a checkout under a 0700 home): then a system folder."""
    root = root.resolve()
    root.mkdir(parents=True, exist_ok=True)
    if owner is None or _can_enter(root, owner):
        return root
    checkout = hashlib.sha256(str(root).encode()).hexdigest()[:12]
    elsewhere = system_state / checkout
    elsewhere.mkdir(mode=0o755, parents=True, exist_ok=True)
    progress(f"The servers' user cannot enter {root}; their files are in {elsewhere}")
    return elsewhere


def _can_enter(folder: Path, owner: Owner) -> bool:
    test = subprocess.run(  # noqa: S603 - a fixed program
        ["/usr/bin/test", "-x", folder], user=owner.uid, group=owner.gid, extra_groups=[], check=False
    )
    return test.returncode == 0
