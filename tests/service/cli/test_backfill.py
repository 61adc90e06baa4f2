"""`bursar backfill` as a user runs it (MS-9)."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from bursar.db.clock import real_now
from tests.billing.kiloclaw.making import event_json, subscription_json
from tests.service.cli.running import Ran, bursar
from tests.service.gateways.fake_http import FakeHttp
from tests.service.gateways.stripe.answers import listing
from tests.service.processes.running import environment_of

SINCE = real_now() - timedelta(days=2)
MISSED = event_json("customer.subscription.updated", subscription_json(), real_now() - timedelta(days=1), "evt_missed")
KNOWN = event_json("customer.subscription.updated", subscription_json(), real_now() - timedelta(days=1), "evt_known")


@pytest.fixture
async def stripe() -> AsyncIterator[FakeHttp]:
    async with FakeHttp(listing(MISSED, KNOWN)).running() as server:
        yield server


async def backfill(environment: dict[str, str], stripe: FakeHttp, *arguments: str) -> Ran:
    at = ("backfill", "--since", SINCE.isoformat())
    return await asyncio.to_thread(bursar, *at, *arguments, **environment | {"STRIPE_API_BASE": stripe.url})


@pytest.fixture
async def environment(database_url: str, amqp_url: str, connection: asyncpg.Connection) -> dict[str, str]:
    await connection.execute("INSERT INTO inbox VALUES ('evt_known', now())")
    return environment_of(database_url, amqp_url)


async def test_ms_9_a_dry_run_says_what_is_missing(environment: dict[str, str], stripe: FakeHttp) -> None:
    ran = await backfill(environment, stripe, "--dry-run", "--json")
    assert ran.exit_code == 0, ran.err
    told = json.loads(ran.out)
    assert (told["missing"], told["events"], told["fed"]) == (1, ["evt_missed"], None)
    assert told["types"] == {"customer.subscription.updated": 1}


async def test_ms_9_it_feeds_in_what_is_missing(environment: dict[str, str], stripe: FakeHttp) -> None:
    ran = await backfill(environment, stripe)
    assert ran.exit_code == 0, ran.err
    assert "1 never came" in ran.out
    assert "Fed in 1, parked 0." in ran.out


def test_ms_9_stripe_keeps_events_for_30_days() -> None:
    ran = bursar("backfill", "--since", (real_now() - timedelta(days=31)).isoformat())
    assert (ran.exit_code, ran.out) == (1, "")
    assert ran.err == "bursar: Stripe keeps events for 30 days only; what is older is found by `bursar reconcile`.\n"


@pytest.mark.parametrize("since", ["tomorrow", "9999-01-01T00:00:00+00:00"])
def test_an_instant_that_is_none_or_lies_ahead_is_wrong_usage(since: str) -> None:
    assert bursar("backfill", "--since", since).exit_code == 2
