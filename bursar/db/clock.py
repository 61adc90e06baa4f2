"""The two clocks. Business time may be stood still and moved by a test clock in the database; real time is the
machine's.

Business time: rules, due dates, mails, decided_at. Real time: leases, backoff, time-outs, signatures, heartbeats, the
inbox's age.
"""

from datetime import UTC, datetime
from typing import Protocol

from bursar.billing.values import Value
from bursar.db.connections import Connection
from bursar.db.items import Situation


def real_now() -> datetime:
    """The machine's clock."""
    return datetime.now(UTC)


class Clock(Protocol):
    """Where the instants of a batch come from."""

    async def situation(self, connection: Connection) -> Situation:
        """Business and real time, now."""
        ...


class MachineClock(Value):
    """Business time is the machine's."""

    async def situation(self, connection: Connection) -> Situation:  # noqa: ARG002 - needs no database
        """Both instants from the machine."""
        now = real_now()
        return Situation(now, now)


class TestClock(Value):
    """Business time stands where `business_clock` says; the machine's while it says nothing."""

    __test__ = False

    async def situation(self, connection: Connection) -> Situation:
        """The test clock's instant, read for every batch: all processes share it."""
        stands_at = await connection.fetchval("SELECT stands_at FROM business_clock")
        now = real_now()
        return Situation(stands_at or now, now)


async def set_business_time(connection: Connection, stands_at: datetime) -> None:
    """Stand business time still at that instant."""
    await connection.execute(
        """
        INSERT INTO business_clock (stands_at) VALUES ($1)
        ON CONFLICT (only_row) DO UPDATE SET stands_at = excluded.stands_at
        """,
        stands_at,
    )


async def release_business_time(connection: Connection) -> None:
    """Let business time run with the machine's clock again."""
    await connection.execute("DELETE FROM business_clock")
