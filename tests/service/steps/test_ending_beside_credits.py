"""A subscription beside an enrolment in credits ends at Stripe, and what was paid for nothing goes back (CR-25)."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from bursar.billing.decision import Decision
from bursar.billing.errors import CallRefused
from bursar.billing.kiloclaw.endings import end_subscription
from bursar.billing.kiloclaw.rows import Status
from bursar.billing.stripe.calls import Call, Method
from bursar.service.steps.endings import SubscriptionEnder
from bursar.service.steps.step_crew import StepCrew
from bursar.service.steps.together import Together
from tests.billing.kiloclaw.making import DAY, NOW, a_paid_row, a_stripe_subscription
from tests.db.deciding import an_item
from tests.service.steps.acting import Acting, FakeStripe, acting, having

CANCELED = ("subscriptions.cancel", "sub_1")
LOOKED = ("invoice_payments.list", "in_1")


@dataclass
class PaidStripe(FakeStripe):
    """Shows what paid the invoice; a refund is refused with what is next in `refusals`."""

    payments: list[dict[str, Any]] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    refusals: list[Exception] = field(default_factory=list)

    async def call(self, call: Call, idempotency_key: str) -> Mapping[str, Any]:
        about = call.target or next(iter(call.params.values()))
        self.calls.append((call.method.value, about))
        self.keys.append(idempotency_key)
        if call.method is Method.LIST_INVOICE_PAYMENTS:
            assert call.params == {"invoice": "in_1", "status": "paid"}
            return {"data": self.payments}
        if call.method is Method.CREATE_REFUND and self.refusals:
            raise self.refusals.pop(0)
        return {}


def a_payment(status: str = "paid", **payment: str) -> dict[str, Any]:
    return {"id": "inpay_1", "invoice": "in_1", "status": status, "payment": payment}


@pytest.fixture
async def worker(database_url: str) -> AsyncIterator[Acting]:
    async with acting(database_url) as opened:
        stripe = PaidStripe(known={"sub_1": a_stripe_subscription()}, payments=[a_payment(payment_intent="pi_1")])
        yield replace(opened, stripe=stripe)


async def ended(worker: Acting, unused_invoice_id: str | None = "in_1") -> PaidStripe:
    assert isinstance(worker.stripe, PaidStripe)
    step = end_subscription("sub_1", unused_invoice_id)
    await worker.decider.decide([an_item("beside", "ada", lambda account: Decision(account, (step,)))])
    await end(worker)
    return worker.stripe


async def end(worker: Acting) -> None:
    crew = StepCrew(
        SubscriptionEnder(worker.stripe, worker.decider), worker.decider, Together(worker.decider), worker.metrics
    )
    for job in await crew.claim(16):
        await crew.carry_out(job)


async def state(worker: Acting) -> str:
    ((found,),) = await worker.fetch("SELECT state FROM steps WHERE kind = 'end_subscription'")
    return str(found)


async def test_cr_25_it_is_canceled_and_all_that_paid_its_invoice_goes_back(worker: Acting) -> None:
    assert isinstance(worker.stripe, PaidStripe)
    worker.stripe.payments += [a_payment(charge="ch_2"), a_payment("open", payment_intent="pi_3"), a_payment()]
    stripe = await ended(worker)

    assert stripe.calls == [CANCELED, LOOKED, ("refunds.create", "pi_1"), ("refunds.create", "ch_2")]
    assert (await state(worker), len(set(stripe.keys))) == ("done", 4)


async def test_cr_25_a_payment_that_went_back_already_is_done(worker: Acting) -> None:
    assert isinstance(worker.stripe, PaidStripe)
    worker.stripe.refusals = [CallRefused("charge_already_refunded", "")]
    await ended(worker)

    assert await state(worker) == "done"


async def test_cr_25_a_refund_that_failed_is_made_though_the_subscription_has_ended_by_then(worker: Acting) -> None:
    assert isinstance(worker.stripe, PaidStripe)
    worker.stripe.refusals = [CallRefused("insufficient_funds", "")]
    stripe = await ended(worker)
    assert await state(worker) == "due"

    stripe.known["sub_1"] = a_stripe_subscription(status="canceled")
    stripe.calls.clear()
    worker.clock.real_now += DAY
    await end(worker)
    assert (stripe.calls, await state(worker)) == ([LOOKED, ("refunds.create", "pi_1")], "done")


@pytest.mark.parametrize(("status", "left"), [("active", "dropped"), ("past_due", "dropped"), ("canceled", "done")])
async def test_cr_25_kc_74_what_pays_for_a_row_by_then_is_neither_ended_nor_given_back(
    worker: Acting, status: Status, left: str
) -> None:
    """An enrolment that fell past due gave way to it while the step waited for Stripe."""
    past_due_since = NOW if status == "past_due" else None
    await worker.decider.decide([having(a_paid_row(status=status, past_due_since=past_due_since))])
    stripe = await ended(worker)

    assert (await state(worker), bool(stripe.calls)) == (left, left == "done")


async def test_cr_25_what_was_used_is_not_given_back(worker: Acting) -> None:
    stripe = await ended(worker, None)

    assert (stripe.calls, await state(worker)) == ([CANCELED], "done")
