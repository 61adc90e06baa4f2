from datetime import UTC, datetime, timedelta

import asyncpg

from bursar.db import parked
from bursar.db.items import MessageCopy
from bursar.service.broker.retries import Retries
from bursar.service.observability.metrics import Metrics
from tests.service.broker.working import RAISING, UNREADABLE, FakeSweeps, Seen, a_decider

AT = datetime(2026, 3, 1, tzinfo=UTC)
LATER = AT + timedelta(hours=1)


async def note(
    connection: asyncpg.Connection, message_id: str, body: bytes = b"1", message_type: str = "stripe.invoice.paid"
) -> None:
    copy = MessageCopy(message_type, {"account": "user:u1"}, body)
    await parked.record_first_failures(
        connection, [parked.FailedMessage(message_id, "user:u1", copy, RuntimeError())], AT
    )


async def states(connection: asyncpg.Connection) -> dict[str, tuple[str, int]]:
    rows = await connection.fetch("SELECT message_id, state, attempts FROM parked_messages")
    return {row["message_id"]: (row["state"], row["attempts"]) for row in rows}


async def test_ms_6_a_due_retry_is_decided_from_its_row(database_url: str, connection: asyncpg.Connection) -> None:
    for message_id, body in (("good", b"1"), ("raising", RAISING), ("unreadable", UNREADABLE)):
        await note(connection, message_id, body)
    await note(connection, "tick:x", message_type="tick")
    seen, sweeps = Seen(), FakeSweeps()
    async with a_decider(database_url) as decider:
        retries = Retries(decider, seen.decode, sweeps, Metrics(), clock=lambda: LATER)
        assert await retries.retry_due() == 4
        assert await retries.retry_due() == 0
    assert await states(connection) == {
        "good": ("replayed", 1),
        "raising": ("retrying", 2),
        "unreadable": ("parked", 2),
        "tick:x": ("replayed", 1),
    }
    assert (seen.ids, sweeps.begun) == (["good"], ["tick:x"])


async def test_ms_6_after_three_retries_a_message_is_parked(database_url: str, connection: asyncpg.Connection) -> None:
    await note(connection, "raising", RAISING)
    async with a_decider(database_url) as decider:
        # The decider's own clock says when the next retry is due, so the test's runs ahead of it by a day each time.
        for attempt in range(2, 5):
            at = datetime.now(UTC) + timedelta(days=1)
            retries = Retries(decider, Seen().decode, FakeSweeps(), Metrics(), clock=lambda at=at: at)  # type: ignore[misc]
            assert await retries.retry_due() == 1
            assert (await states(connection))["raising"][1] == attempt
    assert (await states(connection))["raising"] == ("parked", 4)


async def test_a_retry_that_is_not_due_waits(database_url: str, connection: asyncpg.Connection) -> None:
    await note(connection, "good")
    async with a_decider(database_url) as decider:
        retries = Retries(decider, Seen().decode, FakeSweeps(), Metrics(), clock=lambda: AT)
        assert await retries.retry_due() == 0
