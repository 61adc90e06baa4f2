"""A key that Stripe refuses says nothing about the customer: what is due waits until it is mended (MS-11)."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from bursar.billing.errors import BursarError, KeyRefused
from bursar.billing.steps import StepKind
from bursar.billing.stripe.calls import Call, Method
from bursar.handlers.operations import OPERATIONS, operation_stopped
from bursar.service.gateways.stripe import StripeGateway
from bursar.service.steps.bounds import LEASE
from bursar.service.steps.operations import GIVE_UP_AFTER, OperationCarrier, StripeCalls
from bursar.service.steps.step_crew import StepCrew
from bursar.service.steps.together import Together
from tests.billing.credits.crediting import DUE
from tests.billing.kiloclaw.making import CATALOGUE, HOUR
from tests.service.crediting import balance
from tests.service.steps.operating import Crash, operating, selling
from tests.service.steps.test_auto_top_ups import TopUps, enabled, short_of_money
from tests.service.ticks.test_credit_renewals import row, tick

AN_ATTEMPT_EACH = timedelta(minutes=5)
PAYING = frozenset({Method.CREATE_PAYMENT_INTENT})


@dataclass
class Rotating:
    """A gateway that refuses some calls, as for a key without the right to make them, until it is mended."""

    inner: StripeCalls
    refused: frozenset[Method] = frozenset()
    error: BursarError = field(default_factory=lambda: KeyRefused("the Stripe key is refused"))
    made: list[str] = field(default_factory=list)

    async def call(self, call: Call, idempotency_key: str) -> Mapping[str, Any]:
        self.made.append(call.name)
        if call.method in self.refused:
            raise self.error
        return await self.inner.call(call, idempotency_key)


@asynccontextmanager
async def rotating(database_url: str, refused: frozenset[Method]) -> AsyncIterator[tuple[TopUps, Rotating]]:
    async with (
        short_of_money(database_url) as ada,
        StripeGateway("sk_test_1", api_base=ada.stripe.base_url) as gateway,
    ):
        stripe = Rotating(gateway, refused)
        carrier = OperationCarrier(StepKind.TOP_UP, stripe, OPERATIONS, ada.worker.decider, CATALOGUE)
        together = Together(ada.worker.decider)
        ada.crew = StepCrew(carrier, ada.worker.decider, together, ada.worker.metrics, operation_stopped)
        await tick(ada.worker, ada.sweeps, DUE)
        yield ada, stripe


async def work(ada: TopUps) -> None:
    for job in await ada.crew.claim(8):
        await ada.crew.carry_out(job)


@pytest.mark.parametrize("refused", [frozenset(Method), PAYING], ids=["rotated", "restricted"])
async def test_ms_11_cr_38_a_refused_key_costs_a_top_up_neither_attempts_nor_its_boundary(
    database_url: str, refused: frozenset[Method]
) -> None:
    async with rotating(database_url, refused) as (ada, stripe):
        for hour in range(48):  # longer than attempts last, and than Stripe knows an idempotency key
            await work(ada)
            ada.worker.clock.real_now += timedelta(hours=1)
            if hour % 8 == 0:
                await tick(ada.worker, ada.sweeps, DUE + (hour + 1) * HOUR)
        assert await ada.worker.fetch("SELECT state, attempts FROM steps WHERE kind = 'top_up'") == [("due", 0)]

        stripe.refused = frozenset()
        await ada.settle()
        assert (ada.paid_cents(), await balance(ada.worker), await enabled(ada.worker)) == ([2_000], 5, True)
        assert await row(ada.worker, "status", "current_period_start") == ("active", DUE)


async def test_ms_11_a_refused_key_is_tried_every_five_minutes_no_hotter(database_url: str) -> None:
    async with rotating(database_url, frozenset(Method)) as (ada, stripe):
        for _ in range(60):
            await work(ada)
            ada.worker.clock.real_now += timedelta(minutes=1)
        assert len(stripe.made) == 60 * timedelta(minutes=1) / AN_ATTEMPT_EACH


async def test_ms_11_what_the_key_may_not_change_was_not_begun(database_url: str) -> None:
    """So it is asked about again, and nobody has to learn its outcome."""
    async with rotating(database_url, PAYING) as (ada, stripe):
        await work(ada)
        stripe.refused = frozenset()
        await ada.worker.fetch("UPDATE users SET auto_top_up = false")
        await ada.settle()
        assert ada.stripe.all("payment_intent") == []
        assert await ada.worker.fetch("SELECT state FROM steps WHERE kind = 'top_up'") == [("dropped",)]


async def test_ms_11_a_call_that_was_in_flight_before_stays_so(database_url: str) -> None:
    async with operating(database_url) as worker:
        worker.calls.crash_after = "item"
        await worker.decider.decide([selling()])
        with pytest.raises(Crash):
            await worker.work()
        worker.clock.real_now += LEASE + timedelta(seconds=1)
        worker.calls.failures = {"item": [KeyRefused("the Stripe key is refused")]}
        await worker.work()
        worker.clock.real_now += AN_ATTEMPT_EACH
        await worker.work()
        assert worker.calls.done == ["invoice", "item", "pay"]


async def test_a_command_that_a_refused_key_held_up_goes_only_back_and_waits_for_the_key(database_url: str) -> None:
    async with operating(database_url) as worker:
        worker.calls.failures = {
            "item": [KeyRefused("the Stripe key is refused")],
            "undo:0:invoice": [KeyRefused("the Stripe key is refused")] * 50,
        }
        await worker.decider.decide([selling()])
        await worker.work()
        worker.clock.real_now += GIVE_UP_AFTER
        for _ in range(51):
            worker.clock.real_now += AN_ATTEMPT_EACH
            await worker.work()
        assert worker.calls.done == ["invoice", "undo:0:invoice"]
        assert (await worker.step())[1]["failure"]["code"] == "operation_abandoned"
