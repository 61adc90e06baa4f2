import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import pytest

from bursar.billing.account import partition_of, user_key
from bursar.billing.errors import UnreadableMessage
from bursar.db import ticks
from bursar.db.connections import Connection
from bursar.handlers.messages import ReceivedMessage
from bursar.service.ticks.paging import Sweeping
from bursar.sweeps.table import PLANS, SWEEPS
from tests.billing.kiloclaw.making import CATALOGUE, DAY, HOUR, a_trial
from tests.service.partition_ticks import OVER, PARTITION, tick_message
from tests.service.steps.acting import Acting, acting, having

USERS = [user for user in (f"u{number}" for number in range(3_000)) if partition_of(user_key(user), 32) == PARTITION]


@asynccontextmanager
async def sweeping(database_url: str, users: int) -> AsyncIterator[tuple[Acting, Sweeping]]:
    """A worker, its sweeping, and that many users of one partition whose trial is over."""
    async with acting(database_url) as worker:
        await worker.decider.decide([having(a_trial(), user) for user in USERS[:users]])
        worker.clock.now = OVER
        yield worker, Sweeping(worker.decider, CATALOGUE)


async def to_the_end(sweeps: Sweeping, partition: int = PARTITION) -> int:
    pages = 0
    while await sweeps.page(partition):
        pages += 1
        assert pages < 100
    return pages


async def suspended(worker: Acting) -> int:
    query = "SELECT count(*) FROM kiloclaw_subscriptions WHERE suspended_at IS NOT NULL"
    return int((await worker.fetch(query))[0][0])


async def counts_of(worker: Acting, sweep: str = "trial_expiry") -> dict[str, Any]:
    (row,) = await worker.fetch("SELECT counts FROM tick_partitions ORDER BY tick_id DESC LIMIT 1")
    return dict(row[0].get(sweep, {}))


async def test_kc_80_a_tick_is_worked_off_page_by_page_and_counted(database_url: str) -> None:
    async with sweeping(database_url, 70) as (worker, sweeps):
        await sweeps.begin(tick_message("trial_expiry"))
        assert await sweeps.page(PARTITION)
        assert await suspended(worker) == 64  # and webhooks may pass here
        await to_the_end(sweeps)

        assert await suspended(worker) == 70
        counts = await counts_of(worker)
        assert counts == {"found": 70, "changed": 70, "mails_sent": 70, "mails_skipped": 0, "failed": 0}
        assert not await sweeps.resume(PARTITION)


async def test_kc_80_a_second_run_finds_nothing_left(database_url: str) -> None:
    async with sweeping(database_url, 3) as (worker, sweeps):
        await sweeps.begin(tick_message("trial_expiry"))
        await to_the_end(sweeps)
        await sweeps.begin(tick_message("trial_expiry", OVER + HOUR))
        await to_the_end(sweeps)

        assert (await counts_of(worker))["found"] == 0


async def test_ms_8_the_same_tick_again_does_nothing(database_url: str) -> None:
    async with sweeping(database_url, 3) as (worker, sweeps):
        for _ in range(2):
            await sweeps.begin(tick_message("trial_expiry"))
            await to_the_end(sweeps)

        assert await worker.fetch("SELECT state FROM tick_partitions") == [("done",)]
        assert (await counts_of(worker))["found"] == 3


async def test_ms_8_only_the_latest_due_tick_of_a_sweep_runs(database_url: str) -> None:
    async with sweeping(database_url, 3) as (worker, sweeps):
        worker.clock.now = OVER + 2 * HOUR
        await sweeps.begin(tick_message("trial_expiry", OVER + HOUR))
        await sweeps.begin(tick_message("trial_expiry", OVER + 2 * HOUR))
        await sweeps.begin(tick_message("trial_expiry", OVER))
        await sweeps.begin(tick_message("past_due", OVER))  # another sweep
        query = "SELECT sweep, state FROM tick_partitions JOIN ticks ON id = tick_id ORDER BY sweep, due_at"

        assert await worker.fetch(query) == [
            ("past_due", "running"),
            ("trial_expiry", "superseded"),
            ("trial_expiry", "superseded"),
            ("trial_expiry", "running"),
        ]


async def test_ms_8_a_tick_of_the_far_future_does_not_silence_those_that_are_due(database_url: str) -> None:
    async with sweeping(database_url, 3) as (worker, sweeps):
        await sweeps.begin(tick_message("trial_expiry", OVER + 1_000 * DAY))
        await to_the_end(sweeps)
        await sweeps.begin(tick_message("trial_expiry", OVER))

        query = "SELECT state FROM tick_partitions JOIN ticks ON id = tick_id WHERE due_at = $1"
        assert await worker.fetch(query, OVER) == [("running",)]


async def test_kc_78_after_a_crash_another_goes_on_where_it_stopped(database_url: str) -> None:
    async with sweeping(database_url, 70) as (worker, sweeps):
        await sweeps.begin(tick_message("trial_expiry"))
        await sweeps.page(PARTITION)  # and dies here
        successor = Sweeping(worker.decider, CATALOGUE)
        assert await successor.resume(PARTITION)
        await to_the_end(successor)

        assert await suspended(worker) == 70
        assert (await counts_of(worker))["found"] == 70


async def test_ms_4_a_zombies_late_page_changes_nothing(database_url: str) -> None:
    async with sweeping(database_url, 70) as (worker, sweeps):
        await sweeps.begin(tick_message("trial_expiry"))
        late = await worker.decider.with_connection(lambda connection: ticks.running(connection, PARTITION))
        assert late is not None
        await sweeps.page(PARTITION)
        with pytest.raises(Exception, match="another has moved"):
            await sweeps._do(late)
        await to_the_end(sweeps)

        assert (await counts_of(worker))["found"] == 70


async def test_kc_80_two_lanes_at_once_count_everyone_once(database_url: str) -> None:
    async with sweeping(database_url, 70) as (worker, sweeps):
        await sweeps.begin(tick_message("trial_expiry"))
        await asyncio.gather(to_the_end(sweeps), to_the_end(Sweeping(worker.decider, CATALOGUE)))

        counts = await counts_of(worker)
        assert (counts["found"], counts["changed"], counts["mails_sent"]) == (70, 70, 70)


async def test_kc_78_an_item_that_cannot_be_saved_stops_no_other_and_is_found_again(database_url: str) -> None:
    async with sweeping(database_url, 5) as (worker, sweeps):
        await refusing(worker, USERS[2])
        await sweeps.begin(tick_message("hourly"))
        await to_the_end(sweeps)
        assert await suspended(worker) == 4
        counts = await counts_of(worker)
        assert (counts["found"], counts["changed"], counts["failed"]) == (5, 4, 1)

        await worker.fetch("ALTER TABLE kiloclaw_subscriptions DROP CONSTRAINT refusing")
        worker.clock.now += HOUR
        await sweeps.begin(tick_message("hourly", OVER + HOUR))
        await to_the_end(sweeps)
        assert await suspended(worker) == 5


async def refusing(worker: Acting, user: str) -> None:
    """The database refuses this user's suspension."""
    await worker.fetch(
        f"ALTER TABLE kiloclaw_subscriptions ADD CONSTRAINT refusing "
        f"CHECK (user_id <> '{user}' OR suspended_at IS NULL)"
    )


async def test_kc_80_a_late_tick_decides_by_now_and_an_overdue_item_is_handled_once(database_url: str) -> None:
    async with sweeping(database_url, 1) as (worker, sweeps):
        worker.clock.now = OVER + 10 * DAY
        await sweeps.begin(tick_message("hourly", OVER))
        await to_the_end(sweeps)

        assert await worker.fetch("SELECT suspended_at FROM kiloclaw_subscriptions") == [(OVER + 10 * DAY,)]
        assert [mail for mail, _ in await worker.mails()] == ["claw_suspended_trial"]


async def test_an_hourly_tick_runs_every_sweep_in_order(database_url: str) -> None:
    async with sweeping(database_url, 1) as (worker, sweeps):
        await sweeps.begin(tick_message("hourly"))
        await to_the_end(sweeps)
        (row,) = await worker.fetch("SELECT stage, state, finished_at FROM tick_partitions")
        assert row == (len(PLANS["hourly"]), "done", worker.clock.real_now)
        ((counts,),) = await worker.fetch("SELECT counts FROM tick_partitions")
        assert set(counts) == set(SWEEPS)


async def test_kc_80_a_quiet_hour_is_one_page_on_a_partition(database_url: str) -> None:
    async with sweeping(database_url, 0) as (_, sweeps):
        await sweeps.begin(tick_message("hourly"))
        assert await to_the_end(sweeps) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"{}",
        b'{"sweep":"party","due_at":"2026-06-01T00:00:00Z","partition":1}',
        b'{"sweep":"hourly","due_at":"2026-06-01T00:00:00Z","partition":99}',
    ],
)
async def test_ms_6_a_tick_that_cannot_be_understood_is_refused(database_url: str, body: bytes) -> None:
    async with sweeping(database_url, 0) as (_, sweeps):
        with pytest.raises(UnreadableMessage):
            await sweeps.begin(ReceivedMessage("tick:x", "tick", "", body))


async def test_kc_88_the_sweep_of_steps_revives_what_was_skipped_once_and_drops_what_is_old(
    database_url: str, connection: Connection
) -> None:
    async with sweeping(database_url, 2) as (worker, sweeps):
        await connection.execute("UPDATE users SET email = NULL")
        for user in USERS[:2]:
            await worker.sweep("trial_expiry", user)
        await worker.do_mails()
        assert {state for _, state in await worker.mails()} == {"skipped"}
        await old_rows(connection, worker.clock.real_now - 91 * DAY, 1_500)
        worker.clock.real_now += HOUR

        await sweeps.begin(tick_message("steps", partition=0))
        await to_the_end(sweeps, partition=0)
        counts = await counts_of(worker, "steps")
        assert (counts["found"], counts["changed"], counts["overdue"]) == (2, 2, 0)
        assert (counts["forgotten_inbox"], counts["forgotten_answers"], counts["forgotten_early_events"]) == (
            1_500,
            1_500,
            1_500,
        )
        assert await worker.fetch("SELECT count(*) FROM inbox") == [(2,)]  # the users' own messages


async def test_the_sweep_of_steps_forgets_those_that_ended_well_long_ago(
    database_url: str, connection: Connection
) -> None:
    async with sweeping(database_url, 1) as (worker, sweeps):
        long_ago = worker.clock.real_now - 401 * DAY
        states = ("done", "dropped", "failed", "due")
        await connection.execute(
            """
            INSERT INTO steps (key, account_key, kind, payload, state, due_at, created_at, settled_at, cause)
            SELECT state || age, (SELECT min(key) FROM accounts), 'send_mail', '{}', state, $1, $1,
                CASE WHEN state <> 'due' THEN $1::timestamptz + age * interval '1 day' END, 'test'
            FROM unnest($2::text[]) AS state, generate_series(0, 1) AS age
            """,
            long_ago,
            states,
        )
        await sweeps.begin(tick_message("steps", partition=0))
        await to_the_end(sweeps, partition=0)
        left = {key for (key,) in await worker.fetch("SELECT key FROM steps")}
        assert left == {"done1", "dropped1", "failed0", "failed1", "due0", "due1"}


async def old_rows(connection: Connection, at: datetime, number: int) -> None:
    await connection.execute(
        "INSERT INTO inbox (message_id, received_at) SELECT n::text, $1 FROM generate_series(1, $2::integer) AS n",
        at,
        number,
    )
    await connection.execute(
        """
        INSERT INTO idempotency (scope, key, request_hash, created_at)
        SELECT 'scope', n::text, '', $1 FROM generate_series(1, $2::integer) AS n
        """,
        at,
        number,
    )
    await connection.execute(
        """
        INSERT INTO early_events (event_id, account_key, stripe_subscription_id, type, occurred_at, remembered_at)
        SELECT n::text, $3, 'sub', 'invoice.paid', $1, $1 FROM generate_series(1, $2::integer) AS n
        """,
        at,
        number,
        user_key(USERS[0]),
    )
