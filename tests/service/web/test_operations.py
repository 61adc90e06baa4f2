"""A command that changes something at Stripe, over HTTP: answered at once, left to workers, found again."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from fastapi import APIRouter

from bursar.billing.decision import Decision
from bursar.billing.errors import KeyRefused, Permanent, Retryable
from bursar.billing.values import replace
from bursar.db import idempotency
from bursar.db.items import Item
from bursar.handlers.steps import PARTS
from bursar.service.deciding.decider import Decider
from bursar.service.steps.bounds import LEASE
from bursar.service.web.dependencies import Web
from bursar.service.web.operations import ATTEMPTS, operated
from bursar.service.web.routes import ApiRoute, CommandId
from tests.db.deciding import StandingClock
from tests.service.steps.operating import OPERATIONS, Crash, FakeStripe, Operating, selling
from tests.service.web.serving import Served, served

SELL = "/v1/users/ada/sell"
LOCALLY = "/v1/users/ada/locally"
BUDGET_SECONDS = 2.0
FORWARD = ["invoice", "item", "pay"]

router = APIRouter(route_class=ApiRoute, include_in_schema=False)  # no part of the described product


@router.post(SELL)
async def sell(web: Web, command_id: CommandId) -> dict[str, Any]:
    return dict(await operated(web, lambda lease: selling(command_id, lease=lease)))


@router.post(LOCALLY)
async def locally(web: Web, command_id: CommandId) -> dict[str, Any]:
    """A command that found nothing to change at Stripe."""
    return dict(
        await operated(
            web,
            lambda lease: Item(
                command_id,
                "user:ada",
                PARTS,
                lambda account, _: Decision(account, result={"changed": True}),
                lease=lease,
            ),
        )
    )


@pytest.fixture
def stripe() -> FakeStripe:
    return FakeStripe()


@pytest.fixture
async def web(decider: Decider, stripe: FakeStripe) -> AsyncIterator[Served]:
    async with served(
        decider, stripe_calls=stripe, operations=OPERATIONS, operation_budget_seconds=BUDGET_SECONDS
    ) as running:
        running.app.include_router(router)
        yield running


async def test_a_command_is_answered_with_the_result_of_its_operation(web: Served, stripe: FakeStripe) -> None:
    first, again = [await web.post(SELL, key="k1") for _ in range(2)]
    assert (first.status_code, first.json()) == (200, {"paid": "pay_1"})
    assert again.headers["idempotent-replayed"] == "true"
    assert stripe.done == FORWARD


async def test_after_thirty_days_a_key_is_a_new_commands(
    web: Served, stripe: FakeStripe, connection: asyncpg.Connection
) -> None:
    await web.post(SELL, key="k1")
    await connection.execute("UPDATE idempotency SET created_at = created_at - interval '30 days 1 minute'")
    renewed = await web.post(SELL, key="k1")
    assert (renewed.status_code, renewed.json()) == (200, {"paid": "pay_1"})
    assert stripe.done == FORWARD * 2, "the command was carried out, not answered as the former one"


async def test_another_body_under_a_key_that_has_no_answer_yet_is_refused(web: Served, stripe: FakeStripe) -> None:
    stripe.failures = {"item": [Retryable("busy")] * ATTEMPTS}
    assert (await web.post(SELL, key="k1")).status_code == 503
    reused = await web.post(SELL, {"of": "another"}, key="k1")
    assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_command_that_changes_nothing_at_stripe_answers_by_itself(web: Served, stripe: FakeStripe) -> None:
    assert (await web.post(LOCALLY)).json() == {"changed": True}
    assert stripe.made == []


async def test_a_failed_operation_is_told_as_a_problem(web: Served, stripe: FakeStripe) -> None:
    stripe.refusals = {"pay": "card_declined"}
    answer = await web.post(SELL, key="k1")
    assert (answer.status_code, answer.json()["code"]) == (502, "stripe_refused")
    assert stripe.done == ["invoice", "item", "undo:1:item", "undo:0:invoice"]
    assert (await web.post(SELL, key="k1")).json() == answer.json()
    assert len(stripe.made) == 6  # nothing was tried a second time


async def test_an_operation_that_can_go_neither_on_nor_back_is_told_as_a_problem(
    web: Served, stripe: FakeStripe
) -> None:
    stripe.failures = {"item": [Permanent("the key is of another mode")]}
    answer = await web.post(SELL)
    assert (answer.status_code, answer.json()["code"]) == (500, "operation_failed")


async def test_an_end_that_cannot_be_applied_is_an_operators_at_once(
    decider: Decider, stripe: FakeStripe, connection: asyncpg.Connection
) -> None:
    def in_vain(*_: object) -> Decision:
        raise Permanent("what was paid cannot be given")

    operations = {name: replace(one, apply=in_vain) for name, one in OPERATIONS.items()}
    async with served(decider, stripe_calls=stripe, operations=operations) as running:
        running.app.include_router(router)
        answer = await running.post(SELL)
    assert (answer.status_code, answer.json()["code"]) == (500, "operation_failed")
    step = await connection.fetchrow("SELECT state, error FROM steps WHERE kind = 'operation'")
    assert tuple(step) == ("failed", "Permanent: what was paid cannot be given")
    assert running.metrics.steps_failed.labels("operation")._value.get() == 1


async def test_short_troubles_of_stripe_are_tried_again_within_the_request(web: Served, stripe: FakeStripe) -> None:
    stripe.failures = {"item": [Retryable("time-out")] * (ATTEMPTS - 1)}
    assert (await web.post(SELL)).status_code == 200
    assert stripe.made.count("invoice") == 1


async def test_when_stripe_stays_away_workers_go_on_and_the_same_key_tells_the_end(
    web: Served, stripe: FakeStripe, clock: StandingClock, connection: asyncpg.Connection
) -> None:
    stripe.failures = {"item": [Retryable("busy", retry_after_seconds=7.2)] * ATTEMPTS}
    answer = await web.post(SELL, key="k1")
    assert (answer.status_code, answer.json()["code"]) == (503, "stripe_unavailable")
    assert answer.headers["retry-after"] == "8"
    assert await connection.fetchval("SELECT lease FROM steps WHERE kind = 'operation'") is None

    clock.real_now += LEASE / 2  # a worker need not wait for the end of the lease
    assert await Operating(web.decider, calls=stripe).work() == 1
    assert (await web.post(SELL, key="k1")).json() == {"paid": "pay_1"}
    assert stripe.done == FORWARD


async def test_a_refused_key_is_told_at_once_and_uses_no_attempt_up(
    web: Served, stripe: FakeStripe, connection: asyncpg.Connection
) -> None:
    stripe.failures = {"item": [KeyRefused("the Stripe key is refused")]}
    answer = await web.post(SELL, key="k1")
    assert (answer.status_code, answer.json()["code"]) == (503, "stripe_unavailable")
    assert (answer.headers["retry-after"], stripe.made.count("item")) == ("300", 1)
    assert await connection.fetchval("SELECT attempts FROM steps WHERE kind = 'operation'") == 0
    assert (await web.post(SELL, key="k1")).json() == {"paid": "pay_1"}


async def test_a_free_step_is_carried_on_by_whoever_asks_again(web: Served, stripe: FakeStripe) -> None:
    stripe.failures = {"item": [Retryable("busy")] * ATTEMPTS}
    assert (await web.post(SELL, key="k1")).status_code == 503
    assert (await web.post(SELL, key="k1")).json() == {"paid": "pay_1"}
    assert stripe.done == FORWARD


async def test_a_silent_stripe_is_waited_for_within_the_budget(decider: Decider, stripe: FakeStripe) -> None:
    async def for_ever() -> None:
        await asyncio.Event().wait()

    stripe.meanwhile = for_ever
    async with served(decider, stripe_calls=stripe, operations=OPERATIONS, operation_budget_seconds=0.2) as web:
        web.app.include_router(router)
        answer = await web.post(SELL)
    assert (answer.status_code, answer.json()["code"]) == (503, "stripe_unavailable")


async def test_another_command_meanwhile_is_refused_and_may_come_again(web: Served, stripe: FakeStripe) -> None:
    held = Held(stripe)
    first = asyncio.create_task(web.post(SELL, key="k1"))
    await held.begun.wait()
    refused = await web.post(SELL, key="k2")
    assert (refused.status_code, refused.json()["code"]) == (409, "operation_in_progress")
    held.release.set()
    assert (await first).status_code == 200
    assert (await web.post(SELL, key="k2")).status_code == 200


async def test_the_same_command_waits_for_whoever_carries_it_out(
    web: Served, stripe: FakeStripe, connection: asyncpg.Connection
) -> None:
    held = Held(stripe)
    first = asyncio.create_task(web.post(SELL, key="k1"))
    await held.begun.wait()
    await abandon(connection)
    second = asyncio.create_task(web.post(SELL, key="k1"))
    await looked_up(connection)
    held.release.set()
    assert {(await one).json()["paid"] for one in (first, second)} == {"pay_1"}
    assert stripe.done == FORWARD


async def test_a_claim_of_another_outlasts_the_budget(
    web: Served, stripe: FakeStripe, connection: asyncpg.Connection
) -> None:
    stripe.failures = {"item": [Retryable("busy")] * ATTEMPTS}
    await web.post(SELL, key="k1")
    await connection.execute("UPDATE steps SET lease = gen_random_uuid(), due_at = now() + interval '1 year'")
    lease = await connection.fetchval("SELECT lease FROM steps")
    made = list(stripe.made)
    assert (await web.post(SELL, key="k1")).json()["code"] == "stripe_unavailable"
    assert stripe.made == made
    assert await connection.fetchval("SELECT lease FROM steps") == lease  # it is not ours to give back


@pytest.mark.parametrize("call", ["look", "item"])
async def test_a_crash_in_the_request_is_carried_on_by_the_same_command(
    web: Served, stripe: FakeStripe, clock: StandingClock, connection: asyncpg.Connection, call: str
) -> None:
    stripe.crash_before = call
    with pytest.raises(Crash):
        await web.post(SELL, key="k1")
    await abandon(connection)
    clock.real_now += LEASE
    assert (await web.post(SELL, key="k1")).json() == {"paid": "pay_1"}
    assert stripe.done == FORWARD


async def test_an_answer_that_was_lost_is_found_in_the_step(
    web: Served, stripe: FakeStripe, connection: asyncpg.Connection
) -> None:
    await web.post(SELL, key="k1")
    await connection.execute("UPDATE idempotency SET status = NULL, answer = NULL, released = true")
    assert (await web.post(SELL, key="k1")).json() == {"paid": "pay_1"}
    assert stripe.done == FORWARD


class Held:
    """Stripe answers no call before it is released."""

    def __init__(self, stripe: FakeStripe) -> None:
        self.begun, self.release = asyncio.Event(), asyncio.Event()
        stripe.meanwhile = self._wait

    async def _wait(self) -> None:
        self.begun.set()
        await self.release.wait()


async def abandon(connection: asyncpg.Connection) -> None:
    """As if the process that claimed the key had died long ago."""
    age = idempotency.ABANDONED_AFTER * 2
    await connection.execute("UPDATE idempotency SET created_at = created_at - $1::interval", age)


async def looked_up(connection: asyncpg.Connection) -> None:
    """Wait until a second request has claimed the key anew."""
    async with asyncio.timeout(10):
        while not await connection.fetchval(
            "SELECT count(*) FROM idempotency WHERE created_at > now() - $1::interval", LEASE
        ):
            pass
