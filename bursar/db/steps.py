"""Steps in Postgres: asked for by decisions, claimed by the runner with a lease, settled with their outcome."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from bursar.billing.steps import Step, StepKind
from bursar.billing.values import Value
from bursar.db.connections import Connection, dumps
from bursar.db.items import NewLease, StepAnswer


class Wanted(Value):
    """A step, for whom, and which message caused it. An operation is born under `lease`, where there is one."""

    account_key: str
    step: Step
    cause: str
    lease: NewLease | None = None


class ClaimedStep(Value):
    """A step under a lease of ours. `attempts` counts this one; `calling`: an earlier one ended in mid-call;
    `journal` is what an operation did so far, `created_at` (real time) when it was first asked for.
    """

    id: int
    key: str
    account_key: str
    kind: StepKind
    payload: dict[str, Any]
    asked: int
    attempts: int
    lease: UUID
    calling: bool = False
    created_at: datetime | None = None
    journal: dict[str, Any] | None = None


async def ask(connection: Connection, wanted: Sequence[Wanted], real_now: datetime) -> None:
    """Write steps down. One that exists stays as it is, unless it is coalesced: then it is due once more, as it was
    asked for last.
    """
    newest = {one.step.key: one for one in wanted}
    rows = [
        {
            "key": one.step.key,
            "account_key": one.account_key,
            "kind": one.step.kind,
            "payload": dict(one.step.payload),
            "cause": one.cause,
            **_born(one, real_now),
        }
        for one in newest.values()
    ]
    coalesced = [key for key, one in newest.items() if one.step.coalesced]
    await connection.execute(
        """
        INSERT INTO steps AS known (key, account_key, kind, payload, cause, lease, attempts, due_at, created_at)
        SELECT key, account_key, kind, payload, cause, lease, attempts, due_at, $2
        FROM jsonb_populate_recordset(NULL::steps, $1::text::jsonb)
        ON CONFLICT (key) DO UPDATE SET
            asked = known.asked + 1, state = 'due', cause = excluded.cause, settled_at = NULL,
            payload = excluded.payload, result = NULL,
            attempts = CASE WHEN known.lease IS NULL THEN 0 ELSE known.attempts END,
            due_at = CASE WHEN known.lease IS NULL THEN excluded.due_at ELSE known.due_at END
        WHERE known.key = ANY($3::text[])
        """,
        dumps(rows),
        real_now,
        coalesced,
    )


def _born(wanted: Wanted, real_now: datetime) -> dict[str, Any]:
    if wanted.lease and wanted.step.kind is StepKind.OPERATION:
        return {"lease": wanted.lease.id, "attempts": 1, "due_at": real_now + wanted.lease.lasts}
    return {"lease": None, "attempts": 0, "due_at": real_now}


async def claim(
    connection: Connection, kind: StepKind, real_now: datetime, lease_until: datetime, limit: int
) -> list[ClaimedStep]:
    """Claim up to `limit` due steps of a kind, oldest first, until `lease_until`; nobody waits on another's claim."""
    rows = await connection.fetch(
        """
        UPDATE steps SET lease = gen_random_uuid(), due_at = $3, attempts = attempts + 1
        WHERE id IN (
            SELECT id FROM steps WHERE state = 'due' AND kind = $1 AND due_at <= $2
            ORDER BY due_at LIMIT $4 FOR UPDATE SKIP LOCKED)
        RETURNING id, key, account_key, kind, payload, asked, attempts, lease, calling, created_at, journal
        """,
        kind,
        real_now,
        lease_until,
        limit,
    )
    return [ClaimedStep(**{**row, "kind": StepKind(row["kind"])}) for row in rows]


async def begin_call(connection: Connection, step: ClaimedStep, lease_until: datetime) -> bool:
    """Note that a call which must not be made twice begins, and renew its lease; False when the lease is lost."""
    status = await connection.execute(
        "UPDATE steps SET calling = true, due_at = $3 WHERE id = $1 AND lease = $2 AND state = 'due'",
        step.id,
        step.lease,
        lease_until,
    )
    return bool(status != "UPDATE 0")


async def postpone(
    connection: Connection, step: ClaimedStep, real_now: datetime, due_at: datetime, error: str, *, counts: bool = True
) -> None:
    """Give a claimed step back, to be tried again at `due_at`; one asked for again meanwhile is due at once, afresh.

    An attempt that does not count is taken off again.
    """
    await connection.execute(
        """
        UPDATE steps SET lease = NULL, calling = false, error = $4,
            due_at = CASE WHEN asked = $5 THEN $3::timestamptz ELSE $6::timestamptz END,
            attempts = CASE WHEN asked = $5 THEN attempts - $7::integer ELSE 0 END
        WHERE id = $1 AND lease = $2
        """,
        step.id,
        step.lease,
        due_at,
        error,
        step.asked,
        real_now,
        0 if counts else 1,
    )


async def lock_answered(connection: Connection, answers: Sequence[StepAnswer]) -> dict[UUID, bool]:
    """Lock the steps whose lease still holds: lease → whether the asking that was answered is still the newest."""
    rows = await connection.fetch(
        """
        SELECT steps.lease, steps.asked = answer.asked AS newest
        FROM steps JOIN unnest($1::bigint[], $2::uuid[], $3::integer[]) AS answer (id, lease, asked)
            ON steps.id = answer.id AND steps.lease = answer.lease
        ORDER BY steps.id FOR UPDATE OF steps
        """,
        [answer.step_id for answer in answers],
        [answer.lease for answer in answers],
        [answer.asked for answer in answers],
    )
    return {row["lease"]: row["newest"] for row in rows}


async def settle(connection: Connection, answers: Sequence[StepAnswer], real_now: datetime) -> None:
    """End these steps with their states, or make them due again (state `due`). One that was asked for again since, be
    it in this very batch, is due at once, afresh.
    """
    await connection.execute(
        """
        UPDATE steps SET lease = NULL, calling = false, error = answer.error,
            state = CASE WHEN steps.asked > answer.asked THEN 'due' ELSE answer.state END,
            settled_at = CASE
                WHEN steps.asked > answer.asked OR answer.state = 'due' THEN NULL ELSE $4::timestamptz END,
            due_at = CASE
                WHEN steps.asked > answer.asked THEN $4::timestamptz
                WHEN answer.state = 'due' THEN coalesce(answer.again_at, $4::timestamptz)
                ELSE steps.due_at END,
            attempts = CASE WHEN steps.asked > answer.asked THEN 0 ELSE steps.attempts END,
            result = CASE WHEN steps.asked > answer.asked THEN NULL ELSE answer.result::jsonb END
        FROM unnest($1::bigint[], $2::text[], $3::text[], $5::integer[], $6::timestamptz[], $7::text[])
            AS answer (id, state, error, asked, again_at, result)
        WHERE steps.id = answer.id
        """,
        [answer.step_id for answer in answers],
        [answer.state for answer in answers],
        [answer.error for answer in answers],
        real_now,
        [answer.asked for answer in answers],
        [answer.again_at for answer in answers],
        [dumps(answer.result) if answer.result is not None else None for answer in answers],
    )
    forgetting = [answer.step_id for answer in answers if answer.forgets]
    if forgetting:
        await _forget(connection, forgetting)


async def _forget(connection: Connection, step_ids: Sequence[int]) -> None:
    """That such a step ended stays, not whom it was about; one that is due again still needs to know."""
    await connection.execute(
        """
        UPDATE steps SET key = kind || ':' || id, payload = '{}' WHERE id = ANY($1::bigint[])
            AND state IN ('done', 'dropped')
        """,
        step_ids,
    )


async def revive_failed_reads(connection: Connection, failed_before: datetime, real_now: datetime, limit: int) -> int:
    """Make reads that ran out of attempts due again: an end or a take-over waits for each (KC-37); returns how many."""
    status = await connection.execute(
        """
        UPDATE steps SET state = 'due', due_at = $1, attempts = 0, settled_at = NULL
        WHERE id IN (
            SELECT id FROM steps WHERE state = 'failed' AND kind = $4 AND settled_at < $3
            ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)
        """,
        real_now,
        limit,
        failed_before,
        StepKind.READ_SUBSCRIPTIONS,
    )
    return int(status.rpartition(" ")[2])


async def revive_skipped(connection: Connection, skipped_before: datetime, real_now: datetime, limit: int) -> int:
    """Make steps that could not be done for want of configuration due again (KC-88); returns how many."""
    status = await connection.execute(
        """
        UPDATE steps SET state = 'due', due_at = $1, attempts = 0, settled_at = NULL
        WHERE id IN (
            SELECT id FROM steps WHERE state = 'skipped' AND settled_at < $3
            ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)
        """,
        real_now,
        limit,
        skipped_before,
    )
    return int(status.rpartition(" ")[2])


class Backlog(Value):
    """How many steps are due and nobody's yet, and since when the oldest is."""

    due: int
    oldest_due_at: datetime | None


async def backlog(connection: Connection, due_before: datetime) -> Backlog:
    """The steps that were due before that instant."""
    row = await connection.fetchrow(
        "SELECT count(*) AS due, min(due_at) AS oldest FROM steps WHERE state = 'due' AND due_at < $1", due_before
    )
    return Backlog(row["due"], row["oldest"])
