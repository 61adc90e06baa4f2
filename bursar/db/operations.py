"""Operations in Postgres: what is open for an account, and the journal of what was done so far."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from bursar.billing.operations import Journal, Operations
from bursar.billing.steps import StepKind, StepState
from bursar.billing.values import Value
from bursar.db.accounts import lock_accounts
from bursar.db.connections import Connection
from bursar.db.saving import Change, SaveContext
from bursar.db.steps import ClaimedStep


class KnownStep(Value):
    """A step by its key, whoever has claimed it. `result` is what it ended with."""

    step: ClaimedStep
    state: StepState
    lease: UUID | None
    result: Mapping[str, Any] | None


async def load(connection: Connection, keys: list[str]) -> Mapping[str, Operations]:
    """What is under way for these accounts. A claim whose lease ended counts until another's takes its place: its
    call may still be on the way.
    """
    rows = await connection.fetch(
        """
        SELECT account_key, array_agg(key) FILTER (WHERE kind = 'operation') AS open_keys,
            bool_or(kind = 'keep_schedule' AND lease IS NOT NULL) AS keeps_schedule, bool_or(kind = 'top_up') AS tops_up
        FROM steps
        WHERE account_key = ANY($1::text[]) AND state = 'due' AND kind IN ('operation', 'keep_schedule', 'top_up')
        GROUP BY account_key
        """,
        keys,
    )
    known = {
        row["account_key"]: Operations(tuple(row["open_keys"] or ()), row["keeps_schedule"], row["tops_up"])
        for row in rows
    }
    return {key: known.get(key) or Operations() for key in keys}


async def save(_connection: Connection, _changes: list[Change[Operations]], _context: SaveContext) -> None:
    """Nothing: the steps that a decision asks for are written by themselves."""


async def has_open(connection: Connection, account_key: str) -> bool:
    """Whether an operation of the account is open. A short transaction with the account's lock: a command that is
    being decided is waited for, and one that comes later sees the claim of whoever asks.
    """
    async with connection.transaction():
        await lock_accounts(connection, [account_key])
        return bool(
            await connection.fetchval(
                "SELECT EXISTS (SELECT FROM steps WHERE account_key = $1 AND kind = 'operation' AND state = 'due')",
                account_key,
            )
        )


def journal_of(step: ClaimedStep) -> Journal:
    """The step's journal as it was when it was claimed; a new one where it is of an earlier asking. Raises
    `Permanent` for one that another version wrote.
    """
    written = step.journal
    return Journal.from_json(written["journal"]) if written and written["asked"] == step.asked else Journal()


async def write_journal(connection: Connection, step: ClaimedStep, journal: Journal, lease_until: datetime) -> bool:
    """Write down what happened and renew the lease; False when the lease is lost."""
    status = await connection.execute(
        "UPDATE steps SET journal = $3, due_at = $4 WHERE id = $1 AND lease = $2 AND state = 'due'",
        step.id,
        step.lease,
        {"asked": step.asked, "journal": journal.to_json()},
        lease_until,
    )
    return bool(status != "UPDATE 0")


async def find(connection: Connection, key: str) -> KnownStep | None:
    """The step of that key, without a claim on it."""
    row = await connection.fetchrow(
        """
        SELECT id, key, account_key, kind, payload, asked, attempts, calling, created_at, journal, lease, state, result
        FROM steps WHERE key = $1
        """,
        key,
    )
    if row is None:
        return None
    fields = dict(row)
    state, result = StepState(fields.pop("state")), fields.pop("result")
    return KnownStep(ClaimedStep(**{**fields, "kind": StepKind(row["kind"])}), state, row["lease"], result)


async def claim_one(
    connection: Connection, step_id: int, lease: UUID, real_now: datetime, lease_until: datetime
) -> bool:
    """Claim that step under `lease`, where it is free or its lease ended; False where it is another's or ended."""
    status = await connection.execute(
        """
        UPDATE steps SET lease = $2, due_at = $4, attempts = attempts + 1
        WHERE id = $1 AND state = 'due' AND (lease IS NULL OR due_at <= $3)
        """,
        step_id,
        lease,
        real_now,
        lease_until,
    )
    return bool(status != "UPDATE 0")
