"""The change log: what every row was and became, by what, and why (KC-4)."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec.structs import asdict, astuple

from bursar.billing.account import Account, Tracked
from bursar.billing.values import Value
from bursar.db.connections import Connection, dumps


class ChangeEntry(Value):
    """One changed row: only the fields that changed, before and after; `before` is None for a new row."""

    account_key: str
    entity: str
    entity_id: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any]
    cause: str
    actor: str
    reason: str


def changes_between(before: Account, after: Account, *, cause: str, actor: str, reason: str) -> Iterable[ChangeEntry]:
    """An entry for every tracked row that differs."""
    for kind, part in after.parts.items():
        former = before.parts[kind]
        if part is former or not isinstance(part, Tracked):
            continue
        known = former.rows()
        for (entity, entity_id), row in part.rows().items():
            old = known.get((entity, entity_id))
            if row is old:
                continue
            was, became = _difference(old, row)
            if became:
                yield ChangeEntry(after.key, entity, entity_id, was, became, cause, actor, reason)


async def append(connection: Connection, entries: Sequence[ChangeEntry], now: datetime) -> None:
    """Write the entries, in order."""
    await connection.execute(
        """
        INSERT INTO change_log (account_key, entity, entity_id, before, after, cause, actor, reason, decided_at)
        SELECT account_key, entity, entity_id, before, after, cause, actor, reason, $2
        FROM jsonb_populate_recordset(NULL::change_log, $1::text::jsonb)
        """,
        dumps(entries),
        now,
    )


def _difference(old: Value | None, new: Value) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    if old is None:
        return None, {name: value for name, value in asdict(new).items() if value is not None}
    both = zip(new.__struct_fields__, astuple(old), astuple(new), strict=True)
    # `replace` keeps what it does not change: most fields are the very same object, which is compared at no cost.
    changed = [(name, was, became) for name, was, became in both if was is not became and was != became]
    return {name: was for name, was, _ in changed}, {name: became for name, _, became in changed}
