"""Replays on a real database: foretold truly, done once, signed (MS-7)."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import orjson
import pytest

from bursar.billing.values import as_dict
from bursar.db.items import OutcomeState
from bursar.db.parked_actions import Signature, discard
from bursar.service.deciding.decider import Decider
from bursar.service.operators.replaying import Replaying, ReplayOutcome
from tests.billing.kiloclaw.making import CATALOGUE, NOW
from tests.db.deciding import REAL_NOW, a_decider, a_subscription_item
from tests.service.parking import park, park_subscription, rows

LATER = NOW + timedelta(minutes=1)
BY = Signature("olga", "the price is known now")
APPLIED, FAILED, SETTLED = ReplayOutcome.APPLIED, ReplayOutcome.FAILED, ReplayOutcome.SETTLED


@pytest.fixture
async def decider(database_url: str) -> AsyncIterator[Decider]:
    async with a_decider(database_url) as opened:
        yield opened


@pytest.fixture
def replaying(decider: Decider) -> Replaying:
    return Replaying(decider, CATALOGUE)


async def test_ms_7_a_prediction_changes_nothing_and_the_replay_does_what_it_said(
    database_url: str, connection: asyncpg.Connection, replaying: Replaying
) -> None:
    created = await park_subscription(database_url, "evt_1")
    dunning = await park_subscription(database_url, "evt_2", kind="updated", at=LATER, status="past_due")
    tied = await park_subscription(database_url, "evt_3", kind="updated", at=LATER, status="active")
    other = await park_subscription(database_url, "evt_4", "eve")
    before, told = await rows(connection), list[int]()
    predictions = await replaying.predict([other, tied, dunning, created], told.append)

    assert await rows(connection) == before
    assert sum(told) == 4
    assert [one.outcome for one in predictions.values()] == [APPLIED] * 4
    assert predictions[dunning].changes[0].before is not None  # the row that the message before it makes
    for parked_id in (created, dunning, tied, other):
        assert (await replaying.replay(parked_id, BY)).outcome is APPLIED
    log = await connection.fetch("SELECT entity, entity_id, before, after, reason FROM change_log ORDER BY id")
    said = [change for one in predictions.values() for change in one.changes]
    assert [(*row[:2], *map(orjson.loads, (row["before"] or "null", row["after"])), row["reason"]) for row in log] == [
        (one.entity, one.entity_id, one.before, one.after, one.reason) for one in said
    ]
    steps = await connection.fetch("SELECT account_key, kind, key FROM steps ORDER BY id")
    assert [dict(row) for row in steps] == [as_dict(step) for one in predictions.values() for step in one.steps]
    assert len(steps) > 0


async def test_ms_7_a_replay_keeps_the_messages_id_and_is_signed(
    database_url: str, connection: asyncpg.Connection, replaying: Replaying
) -> None:
    parked_id = await park_subscription(database_url, "evt_1")
    await replaying.replay(parked_id, BY)

    assert await connection.fetchval("SELECT DISTINCT cause FROM change_log") == "evt_1"
    assert await connection.fetchval("SELECT state FROM parked_messages") == "replayed"
    action = await connection.fetchrow("SELECT parked_id, action, actor, reason, error, acted_at FROM parked_actions")
    assert action is not None
    assert tuple(action) == (parked_id, "replay", "olga", BY.reason, None, REAL_NOW)


async def test_ms_7_a_replay_repeats_no_effect(
    database_url: str, connection: asyncpg.Connection, decider: Decider, replaying: Replaying
) -> None:
    parked_id = await park_subscription(database_url, "evt_1")
    both = await asyncio.gather(replaying.replay(parked_id, BY), replaying.replay(parked_id, BY))
    late = await replaying.replay(parked_id, BY)
    [redelivered] = await decider.decide([a_subscription_item("evt_1")])

    assert sorted(one.outcome for one in both) == [APPLIED, SETTLED]
    assert (late.outcome, redelivered.state) == (SETTLED, OutcomeState.DUPLICATE)
    assert await replaying.predict([parked_id]) == {}
    counts = [await connection.fetchval(f"SELECT count(*) FROM {table}") for table in ("change_log", "parked_actions")]  # noqa: S608
    assert counts == [1, 1]


async def test_ms_7_a_replay_that_fails_again_stays_parked_with_its_new_error(
    database_url: str, connection: asyncpg.Connection, replaying: Replaying
) -> None:
    unreadable = await park(connection, "evt_1", b'{"id": "evt_1"}')
    await replaying.replay(await park_subscription(database_url, "evt_2"), BY)
    thief = await park_subscription(database_url, "evt_3", "eve", id="sub_ada")
    foretold = await replaying.predict([unreadable, thief])
    done = {parked_id: await replaying.replay(parked_id, BY) for parked_id in (unreadable, thief)}

    stands = await connection.fetch("SELECT state, attempts, retry_at, error FROM parked_messages ORDER BY id")
    for parked_id, row in ((unreadable, stands[0]), (thief, stands[2])):
        assert (row["state"], row["attempts"], row["retry_at"]) == ("parked", 2, None)
        assert row["error"] == done[parked_id].error != "UnreadableMessage: a bug of ours"
        assert [foretold[parked_id].outcome, done[parked_id].outcome] == [FAILED, FAILED]
    signed = await connection.fetch("SELECT parked_id, error FROM parked_actions WHERE error IS NOT NULL ORDER BY id")
    assert [row["parked_id"] for row in signed] == [unreadable, thief]


async def test_ms_7_one_message_that_cannot_be_saved_does_not_cloud_the_others_of_its_account(
    database_url: str, connection: asyncpg.Connection, replaying: Replaying
) -> None:
    await replaying.replay(await park_subscription(database_url, "evt_1"), BY)
    thief = await park_subscription(database_url, "evt_2", "eve", id="sub_ada")
    good = await park_subscription(database_url, "evt_3", "eve")
    before = await rows(connection)

    predictions = await replaying.predict([thief, good])
    assert [predictions[thief].outcome, predictions[good].outcome] == [FAILED, APPLIED]
    assert await rows(connection) == before


async def test_ms_7_what_was_discarded_cannot_be_replayed(
    database_url: str, connection: asyncpg.Connection, decider: Decider, replaying: Replaying
) -> None:
    parked_id = await park_subscription(database_url, "evt_1")
    assert await discard(connection, [parked_id, 4711], BY, REAL_NOW) == {parked_id}
    assert await discard(connection, [parked_id], BY, REAL_NOW) == set()

    assert (await replaying.replay(parked_id, BY)).outcome is SETTLED
    [redelivered] = await decider.decide([a_subscription_item("evt_1")])
    assert redelivered.state is OutcomeState.DUPLICATE
    assert await connection.fetchval("SELECT state FROM parked_messages") == "discarded"
    assert await connection.fetchval("SELECT count(*) FROM change_log") == 0
    action = await connection.fetchrow("SELECT action, actor, reason FROM parked_actions")
    assert action is not None
    assert tuple(action) == ("discard", "olga", BY.reason)


async def test_ms_7_a_parked_tick_is_foretold_and_begun_once(
    connection: asyncpg.Connection, replaying: Replaying
) -> None:
    due_at = (NOW - timedelta(hours=1)).isoformat()
    body = orjson.dumps({"sweep": "hourly", "due_at": due_at, "partition": 3})
    good, unknown = await park(connection, "tick:a", body, "tick"), await park(connection, "tick:b", b"{}", "tick")
    before = await rows(connection)
    predictions = await replaying.predict([good, unknown])
    assert await rows(connection) == before
    assert predictions[good].sweep == f"hourly due {due_at} on partition 3, unless it ran"

    ended = [(await replaying.replay(parked_id, BY)).outcome for parked_id in (good, good, unknown)]
    assert [predictions[unknown].outcome, *ended] == [FAILED, APPLIED, SETTLED, FAILED]
    assert await connection.fetchval("SELECT count(*) FROM tick_partitions WHERE state = 'running'") == 1
