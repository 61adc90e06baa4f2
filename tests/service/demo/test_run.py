"""The whole walk against a service that knows the right end, and against ones with a flaw each."""

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from rich.console import Console

from bursar.service.demo.generator import generated_lives
from bursar.service.demo.outcome import Outcome
from bursar.service.demo.product import DemoFailedError
from bursar.service.demo.run import DAYS, Plan, World, run_demo
from bursar.service.demo.stand_ins import StandIns, running_stand_ins
from tests.service.demo.oracle_service import API_SECRET, CRON_SECRET, WEBHOOK_SECRET, OracleService
from tests.service.demo.serving import serving

PLAN = Plan(generated_lives())


@pytest.fixture
async def outside(tmp_path: Path) -> AsyncIterator[StandIns]:
    async with running_stand_ins(PLAN.lives, tmp_path, instances_secret=API_SECRET, stripe_key="sk_test") as found:
        yield found


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=4) as opened:
        yield opened


async def _played(service: OracleService, database_url: str, outside: StandIns, cron_secret: str) -> Outcome:
    async with serving(service.app()) as url:
        world = World(
            web_url=url,
            database_url=database_url,
            instances_url=outside.instances_url,
            mails_url=outside.mails_url,
            api_secret=API_SECRET,
            cron_secret=cron_secret,
            webhook_secret=WEBHOOK_SECRET,
        )
        console = Console(file=io.StringIO())
        waits = {"wait_until_quiet": service.become_quiet, "wait_until_settled": service.become_quiet}
        return await run_demo(world, PLAN, **waits, console=console)


async def test_a_right_service_passes(pool: asyncpg.Pool, database_url: str, outside: StandIns) -> None:
    service = OracleService(pool, PLAN, outside)
    outcome = await _played(service, database_url, outside, CRON_SECRET)
    assert outcome.verdict.faults == ()
    assert outcome.exit_code == 0
    assert service.ticks == service.clock[1:]
    assert len(service.ticks) == DAYS
    assert outcome.replayed.duplicates_sent == round(0.2 * outcome.events)
    assert outcome.mails_by_type["claw_instance_destroyed"] == 6
    assert 0 < outcome.duplicates_dropped <= outcome.replayed.duplicates_sent
    _is_told_as_a_table(outcome)
    _is_told_as_json(outcome)


def _is_told_as_a_table(outcome: Outcome) -> None:
    paper = io.StringIO()
    outcome.print_to(Console(file=paper, width=120))
    for words in ("duplicates dropped", "claw_trial_5d", "destroyed", "unpaid", "all 14 rows equal Stripe's"):
        assert words in paper.getvalue()


def _is_told_as_json(outcome: Outcome) -> None:
    told = json.loads(json.dumps(outcome.as_json()))
    assert told["verdict"]["ok"] is True
    events = told["events"]
    assert events["sent"] == events["handled"] + events["duplicates_dropped"] + events["left_alone"]
    assert sum(row["found"] for row in told["rows"]) == sum(row["at_stripe"] for row in told["rows"]) == 14


async def test_each_flaw_of_a_service_is_a_fault(pool: asyncpg.Pool, database_url: str, outside: StandIns) -> None:
    flaws = ("loses", "parks", "mails_twice", "wrong_row", "forgets_instance")
    outcome = await _played(OracleService(pool, PLAN, outside, flaws), database_url, outside, CRON_SECRET)
    assert outcome.exit_code == 1
    for words in ("1 events are lost", "1 messages are parked", "came 2 times", "plan is commit", "saw nothing"):
        assert any(words in fault for fault in outcome.verdict.faults), words


async def test_a_refusal_ends_the_walk_with_a_sentence(
    pool: asyncpg.Pool, database_url: str, outside: StandIns
) -> None:
    service = OracleService(pool, PLAN, outside)
    with pytest.raises(ExceptionGroup) as raised:
        await _played(service, database_url, outside, "wrong")
    assert raised.group_contains(DemoFailedError, match="POST /v1/ticks/hourly was answered 500")
