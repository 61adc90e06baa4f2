"""A Stripe that knows which invoices each payment paid, and the step that asks it, worked by hand."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bursar.billing.stripe.calls import Call, Method
from bursar.service.steps.invoices import InvoiceFinder
from bursar.service.steps.step_crew import StepCrew
from bursar.service.steps.together import Together
from tests.service.steps.acting import Acting, FakeStripe

MAX_STEPS = 256


@dataclass
class PayingStripe(FakeStripe):
    """`paid` is invoices by payment intent."""

    paid: dict[str, list[str]] = field(default_factory=dict)

    async def call(self, call: Call, idempotency_key: str) -> Mapping[str, Any]:
        assert idempotency_key.startswith("find-invoice:")
        assert (call.method, call.params["payment"]["type"]) == (Method.LIST_INVOICE_PAYMENTS, "payment_intent")
        intent = call.params["payment"]["payment_intent"]
        await self._asked(intent)
        return {"data": [{"invoice": one} for one in self.paid.get(intent, [])]}


async def find_invoices(worker: Acting) -> int:
    """Carry out the searches that are due, and those that follow from them; returns how many."""
    assert isinstance(worker.stripe, PayingStripe)
    crew = StepCrew(
        InvoiceFinder(worker.stripe, worker.decider), worker.decider, Together(worker.decider), worker.metrics
    )
    done = 0
    while jobs := await crew.claim(MAX_STEPS):
        await asyncio.gather(*map(crew.carry_out, jobs))
        done += len(jobs)
    return done
