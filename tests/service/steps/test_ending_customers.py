"""What a deleted user left open, or bought unheard of, ends at Stripe; their customer is forgotten (KC-120, KC-121)."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from bursar.billing.errors import CallRefused, KeySpent, Permanent
from bursar.billing.stripe.calls import Call, Method
from bursar.billing.stripe.objects import StripeSubscription
from bursar.service.steps.bounds import STEPS
from bursar.service.steps.endings import CustomerEnder
from bursar.service.steps.step_crew import StepCrew
from bursar.service.steps.together import Together
from bursar.service.web.deleting import deleted
from tests.billing.kiloclaw.making import DAY, a_stripe_subscription, a_trial
from tests.db.scanning import tables_holding
from tests.service.steps.acting import Acting, FakeStripe, acting, having

CUSTOMER = "cus_ada"


@dataclass
class CustomersStripe(FakeStripe):
    """One customer's pages and subscriptions; what ends them is done, unless it stands in `refusals` (by target)."""

    pages: dict[str, str] = field(default_factory=dict)  # open sessions: id → metadata.type
    subscriptions: dict[str, StripeSubscription] = field(default_factory=dict)
    refusals: dict[str, list[Exception]] = field(default_factory=dict)
    paid_late: list[StripeSubscription] = field(default_factory=list)  # there once the others were listed
    calls: list[tuple[Method, str | None]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    async def list_subscriptions(self, customer_id: str) -> list[StripeSubscription]:
        assert customer_id == CUSTOMER
        listed = list(self.subscriptions.values())
        self.subscriptions |= {one.id: one for one in self.paid_late}
        return listed

    async def call(self, call: Call, idempotency_key: str) -> Mapping[str, Any]:
        target = call.target or call.params["customer"]
        if refusals := self.refusals.get(target):
            raise refusals.pop(0)
        if call.method is Method.LIST_CHECKOUT_SESSIONS:
            assert call.params == {"customer": CUSTOMER, "status": "open"}
            return {"data": [{"id": name, "metadata": {"type": kind}} for name, kind in self.pages.items()]}
        self.calls.append((call.method, call.target))
        self.keys.append(idempotency_key)
        self._happens(call.method, target)
        return {}

    def _happens(self, method: Method, target: str) -> None:
        if method is Method.EXPIRE_CHECKOUT_SESSION:
            del self.pages[target]
        elif method is Method.CANCEL_SUBSCRIPTION:
            self.subscriptions[target] = self.subscriptions[target].model_copy(update={"status": "canceled"})


@pytest.fixture
async def worker(database_url: str) -> AsyncIterator[Acting]:
    async with acting(database_url) as opened:
        yield replace(opened, stripe=CustomersStripe())


async def delete_ada(worker: Acting) -> CustomersStripe:
    """A trial with a customer, deleted here."""
    assert isinstance(worker.stripe, CustomersStripe)
    await worker.decider.decide([having(a_trial(), stripe_customer_id=CUSTOMER)])
    await deleted(worker.decider, "ada", "command:1")
    return worker.stripe


async def end(worker: Acting) -> None:
    assert isinstance(worker.stripe, CustomersStripe)
    ender = CustomerEnder(worker.stripe, worker.decider)
    crew = StepCrew(ender, worker.decider, Together(worker.decider), worker.metrics)
    for job in await crew.claim(16):
        await crew.carry_out(job)


async def states(worker: Acting) -> list[str]:
    return [state for (state,) in await worker.fetch("SELECT state FROM steps WHERE kind = 'end_customer'")]


async def tables_with_customer(worker: Acting) -> set[str]:
    async with worker.decider.pool.acquire() as connection:
        return await tables_holding(connection, CUSTOMER)


async def test_kc_120_our_pages_are_expired_and_our_subscriptions_ended(worker: Acting) -> None:
    stripe = await delete_ada(worker)
    stripe.pages = {"cs_1": "kiloclaw", "cs_2": "credit_topup", "cs_other": "shop"}
    stripe.subscriptions = {
        "sub_1": a_stripe_subscription(id="sub_1", schedule="sub_sched_1"),
        "sub_2": a_stripe_subscription(id="sub_2", status="incomplete"),
        "sub_3": a_stripe_subscription(id="sub_3", status="canceled"),
        "sub_other": a_stripe_subscription(id="sub_other", metadata={"type": "shop"}),
    }
    await end(worker)
    assert stripe.calls == [
        (Method.EXPIRE_CHECKOUT_SESSION, "cs_1"),
        (Method.EXPIRE_CHECKOUT_SESSION, "cs_2"),
        (Method.RELEASE_SCHEDULE, "sub_sched_1"),
        (Method.CANCEL_SUBSCRIPTION, "sub_1"),
        (Method.CANCEL_SUBSCRIPTION, "sub_2"),
    ]
    assert await states(worker) == ["done"]


async def test_kc_121_the_customer_is_known_until_it_is_done_and_not_after(worker: Acting) -> None:
    await delete_ada(worker)
    assert await tables_with_customer(worker) == {"steps.key", "steps.payload"}
    await end(worker)
    assert await tables_with_customer(worker) == set()
    [(key, payload)] = await worker.fetch("SELECT key, payload FROM steps WHERE kind = 'end_customer'")
    assert key.startswith("end_customer:")
    assert payload == {}


async def test_kc_120_what_is_paid_while_its_page_is_expired_is_ended_too(worker: Acting) -> None:
    """The subscription shows at the second look only."""
    stripe = await delete_ada(worker)
    stripe.pages = {"cs_1": "kiloclaw"}
    stripe.paid_late = [a_stripe_subscription(id="sub_late")]
    await end(worker)
    assert stripe.calls == [
        (Method.EXPIRE_CHECKOUT_SESSION, "cs_1"),
        (Method.CANCEL_SUBSCRIPTION, "sub_late"),
    ]
    assert await states(worker) == ["done"]


async def test_kc_120_a_page_that_stays_open_is_tried_again(worker: Acting) -> None:
    stripe = await delete_ada(worker)
    stripe.pages = {"cs_1": "kiloclaw"}
    stripe.refusals = {"cs_1": [CallRefused("lock_timeout", "busy")] * 2}
    await end(worker)
    assert await states(worker) == ["due"]
    worker.clock.real_now += DAY
    await end(worker)
    assert (stripe.pages, await states(worker)) == ({}, ["done"])


@pytest.mark.parametrize(
    "trouble",
    [CallRefused("subscription_managed", "managed"), KeySpent("a stored 500"), Permanent("the Stripe key is refused")],
)
async def test_ms_11_a_refusal_is_looked_at_again_under_a_new_key(worker: Acting, trouble: Exception) -> None:
    stripe = await delete_ada(worker)
    stripe.subscriptions = {"sub_1": a_stripe_subscription(schedule="sub_sched_1")}
    stripe.refusals = {"sub_1": [trouble]}
    await end(worker)
    assert await states(worker) == ["due"]
    worker.clock.real_now += DAY
    await end(worker)
    assert await states(worker) == ["done"]
    assert len(set(stripe.keys)) == len(stripe.keys) == 3, "released twice, canceled once"


async def test_a_customer_that_stripe_does_not_know_is_done(worker: Acting) -> None:
    stripe = await delete_ada(worker)
    stripe.refusals = {CUSTOMER: [CallRefused("resource_missing", f"No such customer: '{CUSTOMER}'")]}
    await end(worker)
    assert (stripe.calls, await states(worker)) == ([], ["done"])


async def test_kc_120_who_is_told_of_again_before_it_is_done_keeps_what_they_have(worker: Acting) -> None:
    stripe = await delete_ada(worker)
    await worker.decider.decide([having(a_trial(), "bea", stripe_customer_id=CUSTOMER)])
    stripe.pages = {"cs_1": "kiloclaw"}
    await end(worker)
    assert (stripe.calls, await states(worker)) == ([], ["dropped"])

    await deleted(worker.decider, "bea", "command:2")
    await end(worker)
    assert stripe.pages == {}
    assert await tables_with_customer(worker) == set()


async def test_kc_120_asked_for_again_before_it_is_done_it_begins_afresh(worker: Acting) -> None:
    stripe = await delete_ada(worker)
    stripe.refusals = {CUSTOMER: [Permanent("the Stripe key is refused")]}
    await end(worker)
    await worker.decider.decide([having(a_trial(), "bea", stripe_customer_id=CUSTOMER)])
    await deleted(worker.decider, "bea", "command:2")
    await end(worker)
    assert await states(worker) == ["done"], "at once, without the wait of the earlier asking"


async def test_a_customer_that_cannot_be_ended_stays_known_for_an_operator(worker: Acting) -> None:
    stripe = await delete_ada(worker)
    await worker.fetch("UPDATE steps SET attempts = $1", STEPS[CustomerEnder.kind].attempts - 1)
    stripe.refusals = {CUSTOMER: [Permanent("the Stripe key is refused")]}
    await end(worker)
    [step] = await worker.fetch("SELECT key, state FROM steps WHERE kind = 'end_customer'")
    assert step == (f"end-customer:{CUSTOMER}", "failed")
