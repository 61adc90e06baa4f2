"""Mails that were skipped since none could be sent (KC-88): looked at only, for a dry run."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bursar.billing.steps import StepKind
from bursar.billing.values import Value
from bursar.db.connections import Connection


class SkippedMail(Value):
    """The step that would send it."""

    step_id: int
    account_key: str
    payload: Mapping[str, Any]
    created_at: datetime


async def skipped_mails(connection: Connection, after: tuple[datetime, int], limit: int) -> list[SkippedMail]:
    """In the order in which they are revived, from behind that instant and step id."""
    rows = await connection.fetch(
        """
        SELECT id, account_key, payload, created_at FROM steps
        WHERE state = 'skipped' AND kind = $1 AND created_at >= $2 AND (created_at, id) > ($2, $3)
        ORDER BY created_at, id LIMIT $4
        """,
        StepKind.SEND_MAIL,
        *after,
        limit,
    )
    return [SkippedMail(*row) for row in rows]
