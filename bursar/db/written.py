"""What a transaction wrote because of some messages, read back before it ends: how a dry run tells (MS-7, KC-79)."""

from collections.abc import Sequence
from typing import Any

from bursar.billing.values import Value
from bursar.db.connections import Connection


class WrittenChange(Value):
    """A row that changes: the fields that differ, before and after; `before` is None for a new row."""

    account_key: str
    entity: str
    entity_id: str
    before: dict[str, Any] | None
    after: dict[str, Any]
    reason: str


class WrittenStep(Value):
    """A step that becomes due. Its payload stays out: it may hold addresses (MS-14)."""

    account_key: str
    kind: str
    key: str


async def changes_because_of(
    connection: Connection, account_keys: Sequence[str], message_ids: Sequence[str]
) -> dict[str, list[WrittenChange]]:
    """The change log's entries that name one of these messages as their cause, by message."""
    rows = await connection.fetch(
        """
        SELECT cause, account_key, entity, entity_id, before, after, reason FROM change_log
        WHERE account_key = ANY($1::text[]) AND cause = ANY($2::text[]) ORDER BY id
        """,
        account_keys,
        message_ids,
    )
    changes: dict[str, list[WrittenChange]] = {}
    for row in map(dict, rows):
        changes.setdefault(row.pop("cause"), []).append(WrittenChange(**row))
    return changes


async def steps_because_of(
    connection: Connection, account_keys: Sequence[str], message_ids: Sequence[str]
) -> dict[str, list[WrittenStep]]:
    """The steps that name one of these messages as their cause, by message."""
    rows = await connection.fetch(
        """
        SELECT cause, account_key, kind, key FROM steps
        WHERE account_key = ANY($1::text[]) AND cause = ANY($2::text[]) ORDER BY id
        """,
        account_keys,
        message_ids,
    )
    steps: dict[str, list[WrittenStep]] = {}
    for row in map(dict, rows):
        steps.setdefault(row.pop("cause"), []).append(WrittenStep(**row))
    return steps
