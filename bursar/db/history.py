"""The change log of one account, newest first, page by page."""

from datetime import datetime
from typing import Any

from bursar.billing.values import Value
from bursar.db.connections import Connection


class HistoryEntry(Value):
    """One changed row; `before` is None for a new one."""

    id: int
    entity: str
    entity_id: str
    before: dict[str, Any] | None
    after: dict[str, Any]
    cause: str
    actor: str
    reason: str
    decided_at: datetime


async def page_of_history(
    connection: Connection, account_key: str, before_id: int | None, limit: int
) -> list[HistoryEntry]:
    """At most `limit` entries older than `before_id`, or the newest ones."""
    rows = await connection.fetch(
        """
        SELECT id, entity, entity_id, before, after, cause, actor, reason, decided_at
        FROM change_log WHERE account_key = $1 AND ($2::bigint IS NULL OR id < $2)
        ORDER BY id DESC LIMIT $3
        """,
        account_key,
        before_id,
        limit,
    )
    return [HistoryEntry(**row) for row in rows]
