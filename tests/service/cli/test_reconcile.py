"""`bursar reconcile` as a user runs it (MS-10)."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from tests.billing.kiloclaw.making import subscription_json
from tests.service.cli.running import Ran, bursar
from tests.service.gateways.fake_http import FakeHttp
from tests.service.gateways.stripe.answers import listing
from tests.service.processes.running import environment_of


@pytest.fixture
async def stripe() -> AsyncIterator[FakeHttp]:
    async with FakeHttp(listing(subscription_json(id="sub_unheard-of"))).running() as server:
        yield server


async def reconcile(database_url: str, amqp_url: str, stripe: FakeHttp, *arguments: str) -> Ran:
    environment = environment_of(database_url, amqp_url, STRIPE_API_BASE=stripe.url)
    return await asyncio.to_thread(bursar, "reconcile", *arguments, **environment)


async def test_ms_10_it_prints_what_does_not_fit(database_url: str, amqp_url: str, stripe: FakeHttp) -> None:
    as_json = await reconcile(database_url, amqp_url, stripe, "--json", "--repair", "1")
    assert as_json.exit_code == 0, as_json.err
    told = json.loads(as_json.out)
    assert (told["compared"], told["missing_here"], told["repairs_asked"]) == (1, 1, 1)
    finding = {"kind": "missing_here", "stripe_subscription_id": "sub_unheard-of", "account": "user:ada", "fields": []}
    assert told["findings"] == [finding]

    as_table = await reconcile(database_url, amqp_url, stripe)
    assert "sub_unheard-of" in as_table.out
    assert "Compared 1: missing_here 1. Reads asked for: 0." in as_table.out


def test_a_bound_below_nothing_is_wrong_usage() -> None:
    assert bursar("reconcile", "--repair", "-1").exit_code == 2
