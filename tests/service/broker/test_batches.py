from collections.abc import Sequence

import asyncpg
import pytest

from bursar.db.items import Item, Outcome
from bursar.handlers.messages import ReceivedMessage
from bursar.service.broker.batches import Batches
from bursar.service.deciding.decider import DatabaseUnavailable, Decider
from bursar.service.observability.metrics import Metrics
from tests.service.broker.queues import stripe_message
from tests.service.broker.working import FakeSweeps, Seen, a_decider

TICK = ReceivedMessage("tick:x", "tick", "", b"{}")


class Buggy(Decider):
    """Raises what nobody foresaw for one message, and for every batch that holds it."""

    async def decide(self, items: Sequence[Item]) -> list[Outcome]:
        if any(item.id == "evt_2" for item in items):
            raise KeyError("evt_2")
        return await super().decide(items)


async def test_ms_5_an_unforeseen_error_concerns_one_message_only(
    database_url: str, connection: asyncpg.Connection
) -> None:
    seen, metrics = Seen(), Metrics()
    async with a_decider(database_url) as decider:
        buggy = Buggy(decider.pool, decider.clock, decider.limits)
        batches = Batches(buggy, seen.decode, FakeSweeps(), metrics)
        assert not await batches.handle([stripe_message(number) for number in range(5)])
    assert seen.ids == ["evt_0", "evt_1", "evt_3", "evt_4"]
    row = await connection.fetchrow("SELECT message_id, state, error FROM parked_messages")
    assert (row["message_id"], row["state"]) == ("evt_2", "retrying")
    assert row["error"].startswith("KeyError at ")


async def test_ms_6_a_tick_that_cannot_begin_is_written_down(database_url: str, connection: asyncpg.Connection) -> None:
    async with a_decider(database_url) as decider:
        batches = Batches(decider, Seen().decode, FakeSweeps(trouble=ZeroDivisionError()), Metrics())
        assert await batches.handle([TICK])
    assert await connection.fetchval("SELECT message_id FROM parked_messages") == "tick:x"


async def test_a_tick_waits_while_the_database_does(database_url: str) -> None:
    sweeps = FakeSweeps(trouble=DatabaseUnavailable("the database does not answer"))
    async with a_decider(database_url) as decider:
        batches = Batches(decider, Seen().decode, sweeps, Metrics())
        with pytest.raises(DatabaseUnavailable):
            await batches.handle([TICK])
