"""A deleted user's subscriptions end at Stripe, and their instances are destroyed, without their rows (KC-120)."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from bursar.billing.errors import CallRefused, KeySpent, Permanent
from bursar.billing.stripe.calls import Call
from bursar.service.gateways.instances import CallOutcome, CallResult
from bursar.service.steps.endings import SubscriptionEnder
from bursar.service.steps.step_crew import StepCrew
from bursar.service.steps.together import Together
from bursar.service.web.deleting import deleted
from tests.billing.kiloclaw.making import DAY, a_paid_row, a_stripe_subscription
from tests.service.steps.acting import Acting, FakeStripe, acting, having


@dataclass
class EndingStripe(FakeStripe):
    """Takes what ends a subscription, and refuses what is next in `refusals`."""

    calls: list[tuple[str, str | None, str]] = field(default_factory=list)
    refusals: list[Exception] = field(default_factory=list)

    async def call(self, call: Call, idempotency_key: str) -> Mapping[str, Any]:
        self.calls.append((call.method.value, call.target, idempotency_key))
        if self.refusals:
            raise self.refusals.pop(0)
        return {}


@pytest.fixture
async def worker(database_url: str) -> AsyncIterator[Acting]:
    async with acting(database_url) as opened:
        yield replace(opened, stripe=EndingStripe())


async def delete_ada(worker: Acting, **subscription: Any) -> EndingStripe:
    """Deleted here; Stripe has her subscription as told."""
    assert isinstance(worker.stripe, EndingStripe)
    worker.stripe.known = {"sub_1": a_stripe_subscription(**subscription)}
    await worker.decider.decide([having(a_paid_row(cancel_at_period_end=True), stripe_customer_id="cus_1")])
    await deleted(worker.decider, "ada", "command:1")
    return worker.stripe


async def end(worker: Acting) -> None:
    assert isinstance(worker.stripe, EndingStripe)
    crew = StepCrew(
        SubscriptionEnder(worker.stripe, worker.decider), worker.decider, Together(worker.decider), worker.metrics
    )
    for job in await crew.claim(16):
        await crew.carry_out(job)


async def states(worker: Acting) -> list[tuple[Any, ...]]:
    return await worker.fetch("SELECT key, state, error FROM steps WHERE kind = 'end_subscription'")


async def test_kc_120_the_schedule_is_released_then_the_subscription_canceled(worker: Acting) -> None:
    stripe = await delete_ada(worker, schedule="sub_sched_1")
    await end(worker)
    assert [call[:2] for call in stripe.calls] == [
        ("subscription_schedules.release", "sub_sched_1"),
        ("subscriptions.cancel", "sub_1"),
    ]
    assert await states(worker) == [("end-subscription:sub_1", "done", None)]


@pytest.mark.parametrize("status", ["canceled", "incomplete_expired"])
async def test_one_that_has_ended_is_left_alone(worker: Acting, status: str) -> None:
    stripe = await delete_ada(worker, status=status)
    await end(worker)
    assert stripe.calls == []
    assert await states(worker) == [("end-subscription:sub_1", "done", None)]


async def test_one_that_stripe_does_not_know_is_left_alone(worker: Acting) -> None:
    stripe = await delete_ada(worker)
    stripe.known.clear()
    await end(worker)
    assert await states(worker) == [("end-subscription:sub_1", "done", None)]


@pytest.mark.parametrize(
    "trouble",
    [CallRefused("subscription_managed", "managed"), KeySpent("a stored 500"), Permanent("the Stripe key is refused")],
)
async def test_ms_11_a_refusal_is_looked_at_again_under_a_new_key(worker: Acting, trouble: Exception) -> None:
    stripe = await delete_ada(worker)
    stripe.refusals.append(trouble)
    await end(worker)
    [(_, state, _)] = await states(worker)
    assert state == "due"

    worker.clock.real_now += DAY
    await end(worker)
    assert [state for _, state, _ in await states(worker)] == ["done"]
    keys = [key for _, _, key in stripe.calls]
    assert len(set(keys)) == len(keys) == 2


async def test_kc_120_the_instance_is_destroyed_though_the_rows_are_gone(worker: Acting) -> None:
    await delete_ada(worker)
    await worker.do_instances()
    assert worker.instances.calls == [("inst-ada", "destroyed", 2)]
    [(gone,)] = await worker.fetch("SELECT destroyed_at FROM kiloclaw_instances")
    assert gone == worker.clock.now
    assert await worker.do_mails() == 0, "nobody is told"


async def test_kc_120_a_call_that_was_under_way_answers_nobody_and_is_made_again(worker: Acting) -> None:
    """Its account went during the call."""
    row = a_paid_row(cancel_at_period_end=True)
    await worker.decider.decide([having(row)])
    async with worker.decider.pool.acquire() as connection:
        await connection.execute("UPDATE kiloclaw_instances SET desired_state = 'stopped', generation = 2")

    async def meanwhile() -> None:
        worker.instances.meanwhile = no_more
        await deleted(worker.decider, "ada", "command:1")

    async def no_more() -> None:
        return

    worker.instances.meanwhile = meanwhile
    worker.instances.results = [CallResult(CallOutcome.DONE), CallResult(CallOutcome.DONE)]
    await worker.do_instances()
    await worker.do_instances()
    assert worker.instances.calls == [("inst-ada", "stopped", 2), ("inst-ada", "destroyed", 3)]
    assert await worker.fetch("SELECT key FROM accounts WHERE key LIKE 'user:%'") == []


async def test_kc_121_a_mail_that_waited_is_not_sent(worker: Acting) -> None:
    await worker.decider.decide([having(a_paid_row(status="canceled"))])
    worker.clock.now += 31 * DAY
    await worker.sweep("period_expiry")
    crew = worker.mail_crew()
    [job] = await crew.claim(16)
    await deleted(worker.decider, "ada", "command:1")
    await crew.carry_out(job)
    assert worker.mail.sent == []
