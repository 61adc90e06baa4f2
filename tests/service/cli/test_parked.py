"""`bursar parked` against a real database (MS-7)."""

import json

import asyncpg

from bursar.billing.errors import UnreadableMessage
from bursar.db.clock import real_now
from bursar.db.connections import open_pool
from bursar.db.items import MessageCopy
from bursar.db.parked import FailedMessage, record_first_failures
from tests.service.cli.running import bursar

BODY = b'{"customer_email": "ann@example.com"}'


async def park(database_url: str, message_id: str) -> None:
    message = FailedMessage(
        message_id, "user:u1", MessageCopy("stripe.invoice.paid", {"schema": 1}, BODY), UnreadableMessage("no id")
    )
    async with await open_pool(database_url, max_size=1, name="test") as pool, pool.acquire() as connection:
        await record_first_failures(connection, [message], real_now())


async def test_ms_7_parked_messages_are_listed_and_shown(database_url: str) -> None:
    await park(database_url, "evt_1")
    await park(database_url, "evt_2")

    listed = json.loads(bursar("parked", "list", "--json", DATABASE_URL=database_url).out)
    assert [one["message_id"] for one in listed] == ["evt_2", "evt_1"]
    newest = listed[0]["id"]
    older = bursar("parked", "list", "--before", str(newest), "--json", DATABASE_URL=database_url)
    assert [one["message_id"] for one in json.loads(older.out)] == ["evt_1"]
    assert json.loads(bursar("parked", "list", "--state", "discarded", "--json", DATABASE_URL=database_url).out) == []

    shown = json.loads(bursar("parked", "show", str(newest), "--json", DATABASE_URL=database_url).out)
    assert shown["error"] == "UnreadableMessage: no id"
    assert shown["headers"] == {"schema": 1}
    assert shown["body_bytes"] == len(BODY)


async def test_ms_14_the_body_of_a_parked_message_is_not_shown(database_url: str) -> None:
    await park(database_url, "evt_1")
    for arguments in (("list",), ("show", "1")):
        ran = bursar("parked", *arguments, DATABASE_URL=database_url)
        assert ran.exit_code == 0
        assert "evt_1" in ran.out
        assert "ann@example.com" not in ran.out


def test_a_parked_message_that_is_not_there_is_said(database_url: str) -> None:
    ran = bursar("parked", "show", "4711", DATABASE_URL=database_url)
    assert (ran.exit_code, ran.err) == (1, "bursar: There is no parked message 4711.\n")


async def test_an_unmigrated_database_is_said(connection: asyncpg.Connection, database_url: str) -> None:
    await connection.execute("DELETE FROM _pogo_migration")
    ran = bursar("parked", "list", DATABASE_URL=database_url)
    assert ran.exit_code == 1
    assert "run `bursar migrate` first" in ran.err
