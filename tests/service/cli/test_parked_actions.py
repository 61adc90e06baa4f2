"""`bursar parked replay|discard` against a real database (MS-7)."""

import json
import os
import pty
import subprocess

import asyncpg
import pytest

from tests.service.cli.running import Ran, bursar, bursar_reading
from tests.service.parking import park, park_subscription, rows

REASON = ("--reason", "the price is known now")
# A replay decides as a worker does: it needs all that a worker needs.
SETTINGS = {
    "AMQP_URL": "amqp://127.0.0.1:9",
    "STRIPE_SECRET_KEY": "sk_test_1",
    "STRIPE_WEBHOOK_SECRET": "whsec_1",
    "STRIPE_KILOCLAW_STANDARD_PRICE_ID": "price_standard",
    "STRIPE_KILOCLAW_COMMIT_PRICE_ID": "price_commit",
    "STRIPE_KILOCLAW_EARLYBIRD_PRICE_ID": "price_earlybird",
    "KILOCLAW_API_URL": "http://127.0.0.1:9",
    "KILOCLAW_INTERNAL_API_SECRET": "api-secret",
    "CRON_SECRET": "cron-secret",
    "APP_URL": "https://app.example.test",
    "EMAIL_PROVIDER": "none",
}


def parked(database_url: str, *arguments: str, stdin: int = subprocess.DEVNULL) -> Ran:
    return bursar_reading(stdin, "parked", *arguments, DATABASE_URL=database_url, **SETTINGS)


def answering(database_url: str, answer: bytes, *arguments: str) -> Ran:
    """Run on a terminal where somebody answers."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answer)
        return parked(database_url, *arguments, stdin=theirs)
    finally:
        os.close(ours)
        os.close(theirs)


async def test_ms_7_many_are_replayed_by_a_filter_and_the_system_user_signs(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await connection.execute("INSERT INTO topology (partitions) VALUES (32)")
    await park_subscription(database_url, "evt_1")
    await park_subscription(database_url, "evt_2", "eve")
    await park_subscription(database_url, "evt_3", "bob", kind="updated")
    arguments = ("replay", "--type", "stripe.customer.subscription.created", *REASON, "--json")
    before = await rows(connection)
    looked = parked(database_url, *arguments, "--dry-run")
    assert [one["prediction"]["outcome"] for one in json.loads(looked.out)] == ["applied", "applied"]
    assert await rows(connection) == before

    ran = parked(database_url, *arguments, "--yes")
    assert (ran.exit_code, [one["replayed"]["outcome"] for one in json.loads(ran.out)]) == (0, ["applied", "applied"])
    assert "Replayed 2 of 2." in ran.err
    states = await connection.fetch("SELECT state FROM parked_messages ORDER BY id")
    assert [row["state"] for row in states] == ["replayed", "replayed", "parked"]
    signed = await connection.fetch("SELECT DISTINCT actor, reason FROM parked_actions")
    assert [len(signed), signed[0]["actor"] != "", signed[0]["reason"]] == [1, True, REASON[1]]


async def test_ms_7_on_a_terminal_it_says_what_would_change_and_asks(
    database_url: str, connection: asyncpg.Connection
) -> None:
    parked_id = str(await park_subscription(database_url, "evt_1"))
    refused = answering(database_url, b"n\n", "replay", parked_id, *REASON)
    assert (refused.exit_code, refused.err.endswith("bursar: Nothing was done.\n")) == (1, True)
    assert "would change\n" in refused.out
    assert "status active" in refused.out
    assert await connection.fetchval("SELECT state FROM parked_messages") == "parked"

    agreed = answering(database_url, b"y\n", "replay", parked_id, *REASON, "--actor", "olga")
    assert agreed.exit_code == 0
    assert await connection.fetchval("SELECT state FROM parked_messages") == "replayed"
    assert '"actor": "olga"' in parked(database_url, "show", parked_id, "--json").out


async def test_ms_7_a_replay_that_fails_again_is_exit_code_1(database_url: str, connection: asyncpg.Connection) -> None:
    parked_id = str(await park(connection, "evt_1", b"{}"))
    ran = parked(database_url, "replay", parked_id, *REASON, "--yes")
    assert ran.exit_code == 1
    assert "would fail again: UnreadableMessage" in ran.out
    assert ran.err.endswith("1 of 1 failed again and stay as they were; `parked list` says why.\n")


async def test_ms_7_discarded_messages_stay_so(database_url: str, connection: asyncpg.Connection) -> None:
    for number in (1, 2):
        await park(connection, f"evt_{number}", b"{}")
    ran = parked(database_url, "discard", "--error", "a bug", "--limit", "1", *REASON, "--yes", "--json")
    assert (ran.exit_code, json.loads(ran.out)) == (0, {"discarded": [1]})
    again = parked(database_url, "replay", "1", *REASON, "--yes")
    assert (again.exit_code, again.err) == (1, "bursar: Message 1 was discarded already.\n")
    assert await connection.fetchval("SELECT state FROM parked_messages WHERE id = 2") == "parked"
    missing = parked(database_url, "discard", "2", "4711", *REASON, "--yes")
    assert (missing.exit_code, missing.err) == (1, "bursar: There is no parked message 4711.\n")


@pytest.mark.parametrize("command", ["replay", "discard"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("1", "--yes"),
        ("1", *REASON),
        (*REASON, "--yes"),
        ("1", "--type", "tick", *REASON, "--yes"),
        ("1", "--reason", " ", "--yes"),
        ("1", *REASON, "--actor", "", "--yes"),
        ("--type", "tick", "--limit", "1001", *REASON, "--yes"),
    ],
)
def test_ms_7_wrong_usage_of_an_action_is_exit_code_2(command: str, arguments: tuple[str, ...]) -> None:
    ran = bursar("parked", command, *arguments)
    assert (ran.exit_code, ran.out) == (2, "")
