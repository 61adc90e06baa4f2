"""Where simulations are played: the database of DATABASE_URL, else a private server's."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from bursar.service.servers import running_servers


@contextmanager
def playground() -> Iterator[str]:
    """The address of a database. Blocking: enter it before the event loop."""
    configured = os.environ.get("DATABASE_URL")
    if configured:
        yield configured
        return
    with running_servers("simulate", durable=False) as servers:
        yield servers.database_url
