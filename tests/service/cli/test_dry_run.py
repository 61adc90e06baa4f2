"""`bursar tick SWEEP --dry-run` against a real database, without a broker (KC-79)."""

import json

import asyncpg

from tests.billing.kiloclaw.making import NOW
from tests.service.cli.running import Ran, bursar
from tests.sweeps.due import make_rows

NO_BROKER = "amqp://127.0.0.1:9"


def dry_run(database_url: str, *arguments: str) -> Ran:
    at = ("--at", NOW.isoformat())
    return bursar("tick", "hourly", "--dry-run", *at, *arguments, DATABASE_URL=database_url, AMQP_URL=NO_BROKER)


async def test_kc_79_it_prints_what_would_happen_and_records_no_tick(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await make_rows(
        connection, 1, prefix="ada", status="'past_due'", past_due_since="$3::timestamptz - interval '15 days'"
    )
    as_json, as_table = dry_run(database_url, "--json"), dry_run(database_url)

    assert json.loads(as_json.out)["effects"] == [
        {
            "sweep": "past_due",
            "kind": kind,
            "account_key": "user:ada1",
            "subject": subject,
            "reason": "payment overdue",
            "condition": "",
        }
        for kind, subject in (("suspension", None), ("mail", "claw_suspended_payment"))
    ]
    assert "claw_suspended_payment" in as_table.out
    assert "would cause: mail 1, suspension 1. Nothing was changed." in as_table.out
    assert await connection.fetchval("SELECT count(*) FROM ticks") == 0


def test_a_dry_run_is_not_waited_for(database_url: str) -> None:
    assert dry_run(database_url, "--wait").exit_code == 2
