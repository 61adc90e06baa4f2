"""PostgreSQL and RabbitMQ away for 20 seconds each, while webhooks come in (MS-1, MS-2, MS-3, MS-6)."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import asyncpg
import httpx
import pytest
import pytest_asyncio

from bursar.db.clock import set_business_time
from bursar.db.migrate import migrate
from bursar.handlers.messages import HANDLED_STRIPE_TYPES
from bursar.service.demo.expectations import expected_rows
from bursar.service.demo.generator import generated_lives
from bursar.service.demo.lives import JsonObject, all_events, last_instant, price_environment
from bursar.service.demo.replay import deliveries
from bursar.service.demo.stand_ins import running_stand_ins
from bursar.service.demo.verdict import row_faults
from bursar.service.servers import Servers
from tests.servers import Databases, fresh_vhost, servers_of_tests
from tests.service.outages import OUTAGE_SECONDS, PROCESSES, Outage, outage
from tests.service.processes.running import environment_of
from tests.service.stripe_deliveries import NO_ANSWER, taken

pytestmark = [pytest.mark.lengthy, pytest.mark.timeout(240)]

NOTICED_SECONDS = 5.0  # by then readiness is red
RECOVERY_SECONDS = 15.0
LIVES = generated_lives(120, seed=3)
# One that the relay cannot read but must keep: it needs the database. It comes in the middle of the outage.
NOBODYS = {"id": "evt_nobodys", "type": "invoice.paid", "created": 1_780_000_000, "data": {"object": {}}}
NOBODYS_PLACE = 150
UNFORESEEN = (b'"batch not decided"', b'"job crashed"', b'"step crashed"', b'"step failed"', b'"item not saved"')


def events_to_deliver() -> list[JsonObject]:
    """What we handle of the lives, shuffled, a fifth twice."""
    handled = [event for event in all_events(LIVES) if event["type"] in HANDLED_STRIPE_TYPES]
    return deliveries(handled, seed=3)


EVENTS = events_to_deliver()


@pytest.fixture(scope="module")
def stoppable() -> Iterator[Servers]:
    """Servers that no other test uses."""
    with servers_of_tests("outage") as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def outages(
    servers: Servers,
    stoppable: Servers,
    databases: Databases,
    rabbitmq_management: httpx.Client,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Outage]:
    """Both at once, each of a service whose other server is one that stays."""
    assert stoppable.postgres, "servers of the environment cannot be stopped: unset DATABASE_URL and AMQP_URL"
    assert stoppable.rabbitmq, "likewise"
    await migrate(stoppable.database_url)
    folder = tmp_path_factory.mktemp("lives")
    async with AsyncExitStack() as stack:
        database_url = await stack.enter_async_context(databases.fresh())
        amqp_url = stack.enter_context(fresh_vhost(servers, rabbitmq_management))
        stand_ins = running_stand_ins(LIVES, folder, instances_secret="internal", stripe_key="sk_test_1")
        stripe_url = (await stack.enter_async_context(stand_ins)).stripe_url
        postgres_away = await environment(stoppable.database_url, amqp_url, stripe_url)
        rabbitmq_away = await environment(database_url, stoppable.amqp_url, stripe_url)
        both = await asyncio.gather(
            outage(stoppable.postgres, postgres_away, [*EVENTS[:NOBODYS_PLACE], NOBODYS, *EVENTS[NOBODYS_PLACE:]]),
            outage(stoppable.rabbitmq, rabbitmq_away, EVENTS),
        )
    return dict(zip(("postgres", "rabbitmq"), both, strict=True))


async def environment(database_url: str, amqp_url: str, stripe_url: str) -> dict[str, str]:
    """Of a service whose clock stands behind every event, as no read from Stripe may be older than one."""
    connection = await asyncpg.connect(database_url)
    await set_business_time(connection, datetime.fromtimestamp(last_instant(LIVES), UTC) + timedelta(hours=1))
    await connection.close()
    prices = price_environment(LIVES)
    return environment_of(database_url, amqp_url, STRIPE_API_BASE=stripe_url, BURSAR_TEST_CLOCK="1", **prices)


@pytest.fixture(params=["postgres", "rabbitmq"])
def away(request: pytest.FixtureRequest, outages: dict[str, Outage]) -> Outage:
    """Each of the two in turn."""
    return outages[request.param]


def test_ms_1_without_the_broker_the_relay_answers_503_and_nothing_else(outages: dict[str, Outage]) -> None:
    meanwhile = outages["rabbitmq"].answers_meanwhile()
    assert {answer.status for answer in meanwhile} == {503}
    assert len(meanwhile) > OUTAGE_SECONDS * 5


def test_ms_1_without_the_database_the_relay_takes_what_the_broker_confirms(outages: dict[str, Outage]) -> None:
    meanwhile = [one for one in outages["postgres"].answers_meanwhile() if one.event_id != NOBODYS["id"]]
    assert {answer.status for answer in meanwhile} == {200}
    assert len(meanwhile) > OUTAGE_SECONDS * 5


def test_ms_6_what_only_the_database_could_keep_is_answered_503_until_it_is_kept(outages: dict[str, Outage]) -> None:
    statuses = [one.status for one in outages["postgres"].answers if one.event_id == NOBODYS["id"]]
    assert set(statuses[:-1]) == {503}
    assert statuses[-1] == 200
    assert list(outages["postgres"].found.parked.values()) == ["parked"]


def test_ms_2_every_event_is_taken_in_the_end_and_handled(away: Outage) -> None:
    readable = {event["id"] for event in EVENTS}
    assert readable <= taken(away.answers)
    assert readable == away.found.inbox
    assert NO_ANSWER not in {answer.status for answer in away.answers}


def test_ms_3_every_row_equals_what_stripe_says_in_the_end(away: Outage) -> None:
    assert row_faults(expected_rows(LIVES, ()), away.found.rows, "after the outage") == []
    assert away.found.open_steps == {}


def test_ms_3_nothing_is_applied_twice(away: Outage) -> None:
    assert away.found.doubled == []


def test_ms_6_no_message_is_parked_because_a_server_was_away(away: Outage) -> None:
    assert {key for key in away.found.parked if not key.startswith("webhook:")} == set()
    assert [line for line in away.log if any(words in line for words in UNFORESEEN)] == []


@pytest.mark.parametrize("process", PROCESSES)
def test_readiness_is_red_meanwhile_and_no_process_ends(away: Outage, process: str) -> None:
    assert away.looks_meanwhile(process, after_seconds=NOTICED_SECONDS) == {503}
    assert away.ended == []


def test_the_service_recovers_within_15_seconds(away: Outage) -> None:
    assert away.start_ordered_at - away.gone_at >= OUTAGE_SECONDS
    assert away.recovered_at - away.back_at < RECOVERY_SECONDS
