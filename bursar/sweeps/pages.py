"""A sweep's window on what is due in one partition, and the page it finds there."""

from datetime import UTC, datetime
from typing import Any, Self

from asyncpg import Record

from bursar.billing.catalogue import Catalogue
from bursar.billing.values import Value
from bursar.db.connections import Connection


class Cursor(Value):
    """The last candidate of a page: its instant, then its account."""

    at: datetime
    key: str

    def saved(self) -> list[str]:
        """As it is kept in the tick's row."""
        return [self.at.isoformat(), self.key]

    @classmethod
    def of(cls, saved: list[Any]) -> Self:
        """The cursor that was kept."""
        return cls(datetime.fromisoformat(saved[0]), saved[1])


START = Cursor(datetime(1970, 1, 1, tzinfo=UTC), "")


class Window(Value):
    """What to look at: a partition, business time frozen when the tick began there, and where the last page ended."""

    partition: int
    now: datetime
    catalogue: Catalogue
    after: Cursor
    limit: int


class Page(Value):
    """The accounts that seem due, in the order of their instants; `cursor` is None after the last page."""

    keys: tuple[str, ...]
    cursor: Cursor | None
    instants: tuple[datetime, ...] = ()


def page_of(rows: list[Record], limit: int) -> Page:
    """The page of rows of (instant, account key)."""
    last = Cursor(*rows[-1]) if len(rows) == limit else None
    return Page(tuple(key for _, key in rows), last, tuple(at for at, _ in rows))


async def page_before(connection: Connection, query: str, window: Window, instant: datetime) -> Page:
    """The page of a query of what is due before an instant: $1 partition, $2 instant, $3 and $4 cursor, $5 limit."""
    rows = await connection.fetch(query, window.partition, instant, window.after.at, window.after.key, window.limit)
    return page_of(rows, window.limit)
