"""Rows that are kept for a time only, dropped in bounded batches. All instants are real time."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType

from bursar.db import early_reversals, idempotency, inbox, ticks
from bursar.db.connections import Connection

Forget = Callable[[Connection, datetime, int], Awaitable[int]]
EARLY_EVENTS_KEEP_DAYS = 90
STEPS_KEEP_DAYS = 400  # more than a year, for `bursar why`; what must not happen twice is not told by its step alone


async def forget_answers(connection: Connection, cutoff: datetime, limit: int) -> int:
    """Drop at most `limit` idempotent answers given before the cutoff; returns how many. A key in use is left."""
    status = await connection.execute(
        """
        DELETE FROM idempotency WHERE (scope, key) IN (
            SELECT scope, key FROM idempotency WHERE created_at < $1 ORDER BY created_at LIMIT $2
            FOR UPDATE SKIP LOCKED)
        """,
        cutoff,
        limit,
    )
    return int(status.rpartition(" ")[2])


async def forget_early_events(connection: Connection, cutoff: datetime, limit: int) -> int:
    """Drop at most `limit` events that no subscription claimed since before the cutoff; returns how many."""
    status = await connection.execute(
        """
        DELETE FROM early_events WHERE event_id IN (
            SELECT event_id FROM early_events WHERE remembered_at < $1 ORDER BY remembered_at LIMIT $2)
        """,
        cutoff,
        limit,
    )
    return int(status.rpartition(" ")[2])


async def forget_steps(connection: Connection, cutoff: datetime, limit: int) -> int:
    """Drop at most `limit` steps that ended well before the cutoff; returns how many. A failed one stays, and one that
    is being asked for again.
    """
    status = await connection.execute(
        """
        DELETE FROM steps WHERE id IN (
            SELECT id FROM steps WHERE state IN ('done', 'dropped') AND settled_at < $1 ORDER BY settled_at LIMIT $2
            FOR UPDATE SKIP LOCKED)
        """,
        cutoff,
        limit,
    )
    return int(status.rpartition(" ")[2])


KEPT: Mapping[str, tuple[Forget, timedelta]] = MappingProxyType(
    {
        "forgotten_inbox": (inbox.forget_before, timedelta(days=inbox.KEEP_DAYS)),
        "forgotten_answers": (forget_answers, idempotency.KEEP),
        "forgotten_early_events": (forget_early_events, timedelta(days=EARLY_EVENTS_KEEP_DAYS)),
        "forgotten_early_reversals": (early_reversals.forget_before, timedelta(days=early_reversals.KEEP_DAYS)),
        "forgotten_steps": (forget_steps, timedelta(days=STEPS_KEEP_DAYS)),
        "forgotten_ticks": (ticks.forget_before, timedelta(days=ticks.KEEP_DAYS)),
    }
)


async def forget_old(connection: Connection, real_now: datetime, limit: int) -> dict[str, int]:
    """Drop at most `limit` old rows of each kind; returns how many of which."""
    return {name: await forget(connection, real_now - kept, limit) for name, (forget, kept) in KEPT.items()}
