"""A limit: the job's own SQL in batches of 256, from memory, without a broker and without rules."""

import asyncio
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import orjson

from bench.peers.contender import Addresses
from bench.peers.events import Event, read_events
from bench.peers.job import MICRODOLLARS_PER_CENT

BATCH = 256
AT_ONCE = 4  # as Bursar

Columns = dict[str, list[Any]]


class SqlBatches:
    """Four connections, a batch each at a time."""

    def __init__(self, addresses: Addresses) -> None:
        self._database_url = addresses.database_url

    async def work(self) -> None:
        events = read_events(Path(os.environ["BENCH_EVENTS"]))
        batches = iter([events[start : start + BATCH] for start in range(0, len(events), BATCH)])

        async def worker() -> None:
            connection = await asyncpg.connect(self._database_url)
            for batch in batches:
                await handle_batch(connection, batch)

        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
        await asyncio.Event().wait()


async def handle_batch(connection: Any, batch: Sequence[Event]) -> None:  # noqa: ANN401 - the driver has no types
    """The job for all of these, in one transaction."""
    now = datetime.now(UTC)
    async with connection.transaction():
        accounts = sorted({event.account for event in batch})
        await connection.execute("SELECT FROM accounts WHERE key = ANY($1::text[]) ORDER BY key FOR UPDATE", accounts)
        new = await connection.fetch(
            "INSERT INTO inbox SELECT id, $2 FROM unnest($1::text[]) AS id ON CONFLICT DO NOTHING RETURNING message_id",
            [event.id for event in batch],
            now,
        )
        fresh = {row["message_id"] for row in new}
        columns = _columns([event for event in batch if event.id in fresh])
        await _save(connection, columns, await _rows(connection, columns), now)


def _columns(events: Sequence[Event]) -> Columns:
    columns: Columns = {name: [] for name in ("id", "account", "user", "invoice", "amount", "starts_at", "ends_at")}
    for event in events:
        invoice = orjson.loads(event.body)["data"]["object"]
        period = invoice["lines"]["data"][0]["period"]
        columns["id"].append(event.id)
        columns["account"].append(event.account)
        columns["user"].append(event.account.removeprefix("user:"))
        columns["invoice"].append(invoice["id"])
        columns["amount"].append(invoice["amount_paid"] * MICRODOLLARS_PER_CENT)
        columns["starts_at"].append(datetime.fromtimestamp(period["start"], UTC))
        columns["ends_at"].append(datetime.fromtimestamp(period["end"], UTC))
    return columns


async def _rows(connection: Any, columns: Columns) -> dict[str, Any]:  # noqa: ANN401 - the driver has no types
    rows = await connection.fetch(
        """
        SELECT id::text, user_id, plan, status, current_period_start, current_period_end, settled_at, version
        FROM kiloclaw_subscriptions WHERE user_id = ANY($1::text[])
        """,
        columns["user"],
    )
    return {row["user_id"]: row for row in rows}


async def _save(
    connection: Any,  # noqa: ANN401 - the driver has no types
    columns: Columns,
    rows: dict[str, Any],
    now: datetime,
) -> None:
    newest = {user: n for n, user in enumerate(columns["user"])}
    await connection.execute(
        """
        UPDATE kiloclaw_subscriptions AS row SET current_period_start = told.starts_at,
            current_period_end = told.ends_at, credit_renewal_at = told.ends_at, settled_at = $4, version = version + 1
        FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[]) AS told (user_id, starts_at, ends_at)
        WHERE row.user_id = told.user_id
        """,
        list(newest),
        [columns["starts_at"][n] for n in newest.values()],
        [columns["ends_at"][n] for n in newest.values()],
        now,
    )
    await _log(connection, columns, rows, now)
    await connection.execute(
        """
        INSERT INTO credit_transactions
            (user_id, kind, amount_microdollars, description, business_key, payment_id, cause, created_at)
        SELECT user_id, 'deposit', amount, 'Hosting, invoice ' || invoice, 'deposit:' || invoice, invoice, cause, $5
        FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[]) AS told (user_id, amount, invoice, cause)
        """,
        *(columns[name] for name in ("user", "amount", "invoice", "id")),
        now,
    )


async def _log(
    connection: Any,  # noqa: ANN401 - the driver has no types
    columns: Columns,
    rows: dict[str, Any],
    now: datetime,
) -> None:
    """The log's entries, and the follow-up jobs."""
    before = [
        orjson.dumps({name: rows[user][name] for name in ("current_period_start", "current_period_end")}).decode()
        for user in columns["user"]
    ]
    after = [
        orjson.dumps({"current_period_start": starts_at, "current_period_end": ends_at}).decode()
        for starts_at, ends_at in zip(columns["starts_at"], columns["ends_at"], strict=True)
    ]
    await connection.execute(
        """
        INSERT INTO change_log (account_key, entity, entity_id, before, after, cause, actor, reason, decided_at)
        SELECT account_key, 'subscription', entity_id, before::jsonb, after::jsonb, cause, 'system', 'settled', $6
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
            AS told (account_key, entity_id, before, after, cause)
        """,
        columns["account"],
        [rows[user]["id"] for user in columns["user"]],
        before,
        after,
        columns["id"],
        now,
    )
    await connection.execute(
        """
        INSERT INTO steps (key, account_key, kind, payload, cause, due_at, created_at)
        SELECT 'follow-up:' || cause, account_key, 'keep_schedule', '{}', cause, $3, $3
        FROM unnest($1::text[], $2::text[]) AS told (account_key, cause)
        """,
        columns["account"],
        columns["id"],
        now,
    )


def contender(addresses: Addresses) -> SqlBatches:
    return SqlBatches(addresses)
