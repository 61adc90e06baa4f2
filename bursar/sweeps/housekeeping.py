"""The sweep `steps`: what was skipped is tried again (KC-88), what is overdue is counted, old rows go."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from bursar.billing.values import Value
from bursar.db import steps
from bursar.db.connections import Connection
from bursar.db.housekeeping import forget_old

REVIVED_AT_ONCE = 256
FORGOTTEN_AT_ONCE = 1_000
OVERDUE_AFTER = timedelta(minutes=5)


class Kept(Value):
    """What one bounded round did, and whether another may find more."""

    counts: Mapping[str, int]
    more: bool


async def keep_house(connection: Connection, began_at: datetime, *, first: bool) -> Kept:
    """One round, in real time: what was skipped, and reads that failed, before the tick began are revived, once."""
    skipped = await steps.revive_skipped(connection, began_at, began_at, REVIVED_AT_ONCE)
    failed = await steps.revive_failed_reads(connection, began_at, began_at, REVIVED_AT_ONCE)
    revived = skipped + failed
    forgotten = await forget_old(connection, began_at, FORGOTTEN_AT_ONCE)
    overdue = (await steps.backlog(connection, began_at - OVERDUE_AFTER)).due if first else 0
    counts = {"found": overdue + revived, "changed": revived, "overdue": overdue, **forgotten}
    more = REVIVED_AT_ONCE in (skipped, failed) or FORGOTTEN_AT_ONCE in forgotten.values()
    return Kept(counts, more)
