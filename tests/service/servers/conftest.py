import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bursar.service.servers import Servers
from bursar.service.servers.machine import find_postgres, find_rabbitmq


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder that every user can enter: private servers do not run as root."""
    folder = Path(tempfile.mkdtemp(prefix="bursar-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def postgres_programs(servers: Servers) -> Path:
    """The local programs; the session's servers came first and installed them where that is possible."""
    folder = find_postgres()
    if folder is None or find_rabbitmq() is None:
        pytest.skip(f"no local programs: the servers come from {servers.origin}")
    return folder
