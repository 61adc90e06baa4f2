"""The job as every peer does it: the same statements on Bursar's own tables, whatever driver carries them.

Lock the account, dedupe, read the row, change it, log the change, enter the ledger. The follow-up job is each peer's
own way, except where it has none: then it is a row of `steps`.
"""

import json
from collections.abc import Generator, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from bench.peers.events import Event

Row = Mapping[str, Any]
Statement = tuple[str, tuple[Any, ...]]
Statements = Generator[Statement, Row | None, bool]

MICRODOLLARS_PER_CENT = 10_000

LOCK = "SELECT key FROM accounts WHERE key = $1 FOR UPDATE"
DEDUPE = "INSERT INTO inbox (message_id, received_at) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING message_id"
READ = """
    SELECT id::text, plan, status, current_period_start, current_period_end, credit_renewal_at, settled_at, version
    FROM kiloclaw_subscriptions WHERE user_id = $1
    """
CHANGE = """
    UPDATE kiloclaw_subscriptions SET current_period_start = $2, current_period_end = $3, credit_renewal_at = $3,
        settled_at = $4, version = version + 1
    WHERE user_id = $1
    """
LOG = """
    INSERT INTO change_log (account_key, entity, entity_id, before, after, cause, actor, reason, decided_at)
    VALUES ($1, 'subscription', $2, $3::text::jsonb, $4::text::jsonb, $5, 'system', $6, $7)
    """
ENTER = """
    INSERT INTO credit_transactions
        (user_id, kind, amount_microdollars, description, business_key, payment_id, cause, created_at)
    VALUES ($1, 'deposit', $2::bigint, $3, $4, $5, $6, $7)
    """
FOLLOW_UP = """
    INSERT INTO steps (key, account_key, kind, payload, cause, due_at, created_at)
    VALUES ($1, $2, 'keep_schedule', '{}', $3, $4, $4)
    """


def job(event: Event, *, is_locked: bool = False) -> Statements:
    """The statements of one event, to be run in one transaction; returns False for an event that was handled before.

    Each is answered with its first row. `is_locked` leaves the lock to the caller.
    """
    invoice = orjson.loads(event.body)["data"]["object"]
    period = invoice["lines"]["data"][0]["period"]
    starts_at, ends_at = (datetime.fromtimestamp(period[name], UTC) for name in ("start", "end"))
    now, user_id, invoice_id = datetime.now(UTC), event.account.removeprefix("user:"), invoice["id"]
    if not is_locked:
        yield LOCK, (event.account,)
    if not (yield DEDUPE, (event.id, now)):
        return False
    row = yield READ, (user_id,)
    assert row, "every user has a row"
    before = {name: _text(row[name]) for name in ("current_period_start", "current_period_end", "settled_at")}
    after = dict(zip(before, map(_text, (starts_at, ends_at, now)), strict=True))
    yield CHANGE, (user_id, starts_at, ends_at, now)
    reason = f"invoice {invoice_id} settled"
    yield LOG, (event.account, row["id"], json.dumps(before), json.dumps(after), event.id, reason, now)
    amount, key = invoice["amount_paid"] * MICRODOLLARS_PER_CENT, f"deposit:{invoice_id}"
    yield ENTER, (user_id, amount, f"Hosting, invoice {invoice_id}", key, invoice_id, event.id, now)
    return True


def follow_up(event: Event) -> Statement:
    """The follow-up job as a row, for those that have no jobs of their own."""
    return FOLLOW_UP, (f"follow-up:{event.id}", event.account, event.id, datetime.now(UTC))


def _text(value: datetime | None) -> str | None:
    return value.isoformat() if value else None
