"""Where simulations are played: the database of DATABASE_URL, else a private server's."""

from collections.abc import Iterator
from contextlib import contextmanager

from bursar.service.servers import running_servers


@contextmanager
def playground() -> Iterator[str]:
    """The address of a database. Blocking: enter it before the event loop."""
    with running_servers("simulate", durable=False, with_rabbitmq=False) as servers:
        yield servers.database_url
