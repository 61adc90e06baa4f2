from datetime import datetime
from itertools import product
from typing import Any

import pytest

from bursar.db.connections import Connection
from bursar.sweeps.table import PLANS, SWEEPS
from tests.billing.kiloclaw.making import DAY, HOUR, NOW, SECOND
from tests.sweeps.due import MANY, PARTITIONS, all_pages, key, make_rows, window
from tests.sweeps.explaining import INDEX_OF, PLAN_MODES, explained_page

pytestmark = pytest.mark.lengthy

TRIAL = {
    "plan": "'trial'",
    "status": "'trialing'",
    "payment_source": "NULL",
    "stripe_subscription_id": "NULL",
    "trial_started_at": "$3::timestamptz - interval '60 days'",
}
SUSPENDED = {"status": "'canceled'", "suspended_at": "$3::timestamptz - interval '7 days'"}


async def make_instances(connection: Connection, prefix: str, state: str = "stopped", destroying: str = "NULL") -> None:
    await connection.execute(
        """
        INSERT INTO kiloclaw_instances (id, account_key, partition, created_at, desired_state, generation,
            done_generation, destroying_since, wanted_since, due_at)
        SELECT 'inst-' || user_id, account_key, partition, $2, $3, 2, 2, $4::text::timestamptz, $2, $2
        FROM kiloclaw_subscriptions WHERE user_id LIKE $1 || '%' ORDER BY account_key
        """,
        prefix,
        NOW,
        state,
        None if destroying == "NULL" else destroying,
    )
    await connection.execute(
        "UPDATE kiloclaw_subscriptions SET instance_id = 'inst-' || user_id WHERE user_id LIKE $1 || '%'", prefix
    )


async def found(connection: Connection, sweep: str) -> list[str]:
    return await found_at(connection, sweep, NOW)


async def found_at(connection: Connection, sweep: str, now: datetime) -> list[str]:
    windows = [window(now, partition) for partition in range(PARTITIONS)]
    pages = [page for first in windows for page in await all_pages(connection, sweep, first)]
    return [one for page in pages for one in page.keys]


def test_the_order_is_enforcement_before_advice() -> None:
    assert PLANS["hourly"] == (
        "credit_renewal",
        "resume",
        "trial_expiry",
        "period_expiry",
        "destruction",
        "past_due",
        "destruction_warning",
        "trial_warning",
        "earlybird_warning",
        "steps",
        "gap_check",
        "reconcile",
        "audit",
    )


@pytest.mark.parametrize(
    ("sweep", "due", "not_yet"),
    [
        (
            "trial_expiry",
            TRIAL | {"trial_ends_at": "$3::timestamptz - interval '1 second'"},
            TRIAL | {"trial_ends_at": "$3::timestamptz"},
        ),
        (
            "period_expiry",
            {"status": "'canceled'", "current_period_end": "$3::timestamptz - interval '1 second'"},
            {"status": "'canceled'", "current_period_end": "$3::timestamptz"},
        ),
        (
            "past_due",
            {"status": "'unpaid'", "past_due_since": "$3::timestamptz - interval '14 days 1 second'"},
            {"status": "'past_due'", "past_due_since": "$3::timestamptz - interval '14 days'"},
        ),
        (
            "destruction",
            SUSPENDED | {"destruction_deadline": "$3::timestamptz - interval '1 second'"},
            SUSPENDED | {"destruction_deadline": "$3::timestamptz"},
        ),
        (
            "trial_warning",
            TRIAL | {"trial_ends_at": "$3::timestamptz + interval '5 days'"},
            TRIAL | {"trial_ends_at": "$3::timestamptz + interval '5 days 1 second'"},
        ),
        (
            "destruction_warning",
            SUSPENDED | {"destruction_deadline": "$3::timestamptz + interval '2 days'"},
            SUSPENDED | {"destruction_deadline": "$3::timestamptz + interval '2 days 1 second'"},
        ),
    ],
)
async def test_a_sweep_finds_what_is_due_and_nothing_else(
    connection: Connection, sweep: str, due: dict[str, str], not_yet: dict[str, str]
) -> None:
    await make_rows(connection, 3, prefix="due", **due)
    await make_rows(connection, 3, prefix="later", **not_yet)
    await make_rows(connection, 3, prefix="active")
    for prefix in ("due", "later", "active"):
        await make_instances(connection, prefix, "running")

    assert await found(connection, sweep) == [key("due", number) for number in (1, 2, 3)]


async def test_kc_90_resume_finds_entitled_rows_whose_instance_was_left_stopped(connection: Connection) -> None:
    for prefix, columns, state in (
        ("due", {}, "stopped"),
        ("fine", {}, "running"),
        ("suspended", SUSPENDED, "stopped"),
    ):
        await make_rows(connection, 2, prefix=prefix, **columns)
        await make_instances(connection, prefix, state)

    assert await found(connection, "resume") == [key("due", 1), key("due", 2)]


async def test_kc_73_what_is_being_destroyed_is_no_candidate_again(connection: Connection) -> None:
    await make_rows(connection, 2, **SUSPENDED, destruction_deadline="$3::timestamptz - interval '1 day'")
    await make_instances(connection, "many", "destroyed", destroying=NOW.isoformat())

    assert await found(connection, "destruction") == []
    assert await found(connection, "destruction_warning") == []


@pytest.mark.parametrize(
    ("sweep", "mail", "left"),
    [
        ("trial_warning", "claw_trial_5d", "3 days"),
        ("trial_warning", "claw_trial_1d", "20 hours"),
    ],
)
async def test_kc_75_who_was_warned_is_no_candidate(connection: Connection, sweep: str, mail: str, left: str) -> None:
    await make_rows(connection, 2, **TRIAL, trial_ends_at=f"$3::timestamptz + interval '{left}'")
    await warn(connection, key("many", 1), mail, NOW - HOUR)

    assert await found(connection, sweep) == [key("many", 2)]


async def test_kc_75_the_last_days_warning_follows_the_earlier_one(connection: Connection) -> None:
    await make_rows(connection, 1, **TRIAL, trial_ends_at="$3::timestamptz + interval '1 day'")
    await warn(connection, key("many", 1), "claw_trial_5d", NOW - 4 * DAY)

    assert await found(connection, "trial_warning") == [key("many", 1)]


async def test_kc_72_a_warning_of_an_earlier_suspension_does_not_count(connection: Connection) -> None:
    await make_rows(connection, 2, **SUSPENDED, destruction_deadline="$3::timestamptz + interval '1 day'")
    await make_instances(connection, "many")
    await warn(connection, key("many", 1), "claw_destruction_warning", NOW - 7 * DAY - SECOND)
    await warn(connection, key("many", 2), "claw_destruction_warning", NOW - DAY)

    assert await found(connection, "destruction_warning") == [key("many", 1)]


async def warn(connection: Connection, account: str, mail: str, at: Any) -> None:
    await connection.execute(
        """
        INSERT INTO kiloclaw_email_log (user_id, account_key, email_type, cycle, decided_at)
        VALUES (substr($1, 6), $1, $2, CASE WHEN $2 ~ 'trial|earlybird' THEN '' ELSE $3::text END, $3::timestamptz)
        """.replace("$3::text", "'then'"),
        account,
        mail,
        at,
    )


async def test_kc_73_pages_follow_each_other_oldest_first_without_a_gap(connection: Connection) -> None:
    ties = "$3::timestamptz - (n / 40) * interval '1 second' - interval '1 minute'"  # many of the same instant
    await make_rows(connection, 6_400, **SUSPENDED, destruction_deadline=ties)
    pages = await all_pages(connection, "destruction", window(partition=5))

    keys = [one for page in pages for one in page.keys]
    assert [len(page.keys) for page in pages] == [64, 64, 64, 8]
    assert len(set(keys)) == 200
    deadlines = await connection.fetch(
        "SELECT account_key FROM kiloclaw_subscriptions WHERE partition = 5 ORDER BY destruction_deadline, account_key"
    )
    assert keys == [row["account_key"] for row in deadlines]


@pytest.fixture
async def many_rows(connection: Connection) -> Connection:
    """100,000 rows of each kind that a sweep looks for, none of them due; and a few that are."""
    ahead = "$3::timestamptz + interval '30 days' + n * interval '1 minute'"
    past = "$3::timestamptz - interval '3 hours' - n * interval '1 minute'"
    ended = {"status": "'canceled'", "current_period_start": "$3::timestamptz - interval '90 days'"}
    await make_rows(connection, MANY // 4, prefix="a", **TRIAL, trial_ends_at=ahead)
    await make_rows(connection, MANY // 4, prefix="b", **ended, current_period_end=ahead)
    await make_rows(connection, MANY // 4, prefix="c", status="'past_due'", past_due_since="$3::timestamptz")
    await make_rows(connection, MANY // 4, prefix="d", **SUSPENDED, destruction_deadline=ahead)
    for kind, columns in {
        "e": TRIAL | {"trial_ends_at": past},
        "f": ended | {"current_period_end": past},
        "g": {"status": "'past_due'", "past_due_since": f"{past} - interval '15 days'"},
        "h": SUSPENDED | {"destruction_deadline": past},
        "i": TRIAL | {"trial_ends_at": "$3::timestamptz + interval '2 days'"},
        "j": SUSPENDED | {"destruction_deadline": "$3::timestamptz + interval '1 day'"},
        "k": {},
    }.items():
        await make_rows(connection, 320, prefix=kind, **columns)
    for kind in ("c", "d", "j", "k"):
        await make_instances(connection, kind, "running" if kind == "c" else "stopped")
    await connection.execute(
        """
        INSERT INTO kiloclaw_email_log (user_id, account_key, email_type, decided_at)
        SELECT user_id, account_key, 'claw_suspended_payment', $1 FROM kiloclaw_subscriptions
        """,
        NOW,
    )
    await connection.execute("VACUUM ANALYZE")
    return connection


OF_ROWS = [sweep for sweep in INDEX_OF if sweep not in ("credit_renewal", "earlybird_warning")]


# A resume is looked for among the suspended: 800 of them in this partition.
BUFFERS_AT_MOST = {"resume": 800 * 6}


@pytest.mark.timeout(240)  # the rows take most of it
async def test_kc_80_every_sweep_of_rows_walks_its_index_and_costs_what_is_due(
    many_rows: Connection, database_url: str
) -> None:
    for sweep, mode in product(OF_ROWS, PLAN_MODES):
        page = await explained_page(database_url, sweep, window(), mode)

        assert INDEX_OF[sweep] in page.plan, page.plan
        assert "Seq Scan" not in page.plan, page.plan
        assert page.buffers < BUFFERS_AT_MOST.get(sweep, 500), page.plan
        pages = await all_pages(many_rows, sweep, window())
        assert sum(len(page.keys) for page in pages) == 10, sweep


def test_every_sweep_has_its_index_guarded() -> None:
    assert set(INDEX_OF) == set(SWEEPS)
