"""What goes wrong on demand, and what an idempotency key remembers of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import stripe

from bursar.service.stripe_stand_in.faults import Fault
from tests.stripe.asking import commit_with_schedule, sdk, subscribed
from tests.stripe.stand_in import StripeStandIn, stripe_stand_in

START = datetime(2026, 3, 1, tzinfo=UTC)
CREATE = "POST /v1/customers"


@asynccontextmanager
async def asked() -> AsyncIterator[tuple[StripeStandIn, Any]]:
    async with stripe_stand_in(now=START) as stand_in, sdk(stand_in) as api:
        yield stand_in, api


async def create(api: Any, email: str = "user-1@example.com", key: str = "key-1") -> Any:
    return await api.customers.create_async({"email": email}, {"idempotency_key": key})


def customers(stand_in: StripeStandIn) -> int:
    return len(stand_in.all("customer"))


def refused_with(error: stripe.StripeError) -> tuple[int | None, str | None]:
    """Status and code; for a 409 the SDK has the code in the body only."""
    return error.http_status, error.code or getattr(error.error, "code", None)


async def test_the_first_answer_for_a_key_is_given_again() -> None:
    async with asked() as (stand_in, api):
        first, second = await create(api), await create(api)
        assert (first.id, customers(stand_in)) == (second.id, 1)
        assert "idempotent-replayed" not in {name.lower() for name in first.last_response.headers}
        assert second.last_response.headers["Idempotent-Replayed"] == "true"
        assert [call.idempotency_key for call in stand_in.calls] == ["key-1", "key-1"]


async def test_a_key_with_other_parameters_is_refused() -> None:
    async with asked() as (stand_in, api):
        await create(api)
        with pytest.raises(stripe.IdempotencyError) as caught:
            await create(api, "other@example.com")
        assert (caught.value.http_status, customers(stand_in)) == (400, 1)


async def test_a_key_in_flight_is_a_conflict_and_then_has_its_answer() -> None:
    async with asked() as (stand_in, api):
        stand_in.faults.next(CREATE, Fault.HELD)
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            first = tasks.create_task(create(api))
            await stand_in.faults.holding.wait()
            for _ in range(2):
                with pytest.raises(stripe.StripeError) as caught:
                    await create(api)
                assert refused_with(caught.value) == (409, "idempotency_key_in_use")
            stand_in.faults.let_go()
        assert (await create(api)).id == first.result().id
        assert customers(stand_in) == 1


@pytest.mark.parametrize(("fault", "made"), [(Fault.TIMEOUT_BEFORE, 0), (Fault.TIMEOUT_AFTER, 1)])
async def test_a_time_out_leaves_open_whether_it_happened_and_the_key_settles_it(fault: Fault, made: int) -> None:
    async with asked() as (stand_in, api):
        stand_in.faults.next(CREATE, fault)
        with pytest.raises(stripe.APIConnectionError):
            await create(api)
        assert customers(stand_in) == made
        await create(api)
        assert customers(stand_in) == 1


@pytest.mark.parametrize(("fault", "made"), [(Fault.ERROR_BEFORE, 0), (Fault.ERROR_AFTER, 1)])
async def test_a_500_is_remembered_for_its_key(fault: Fault, made: int) -> None:
    async with asked() as (stand_in, api):
        stand_in.faults.next(CREATE, fault)
        for _ in range(2):
            with pytest.raises(stripe.APIError) as caught:
                await create(api)
            assert caught.value.http_status == 500
        assert customers(stand_in) == made
        await create(api, key="key-2")
        assert customers(stand_in) == made + 1


async def test_too_many_requests_come_with_retry_after_and_leave_the_key_free() -> None:
    async with asked() as (stand_in, api):
        stand_in.faults.next(CREATE, Fault.RATE_LIMITED)
        with pytest.raises(stripe.RateLimitError) as caught:
            await create(api)
        assert {name.lower(): value for name, value in (caught.value.headers or {}).items()}["retry-after"] == "1"
        await create(api)
        assert customers(stand_in) == 1


async def test_a_lock_time_out_leaves_the_key_free() -> None:
    async with asked() as (stand_in, api):
        stand_in.faults.next(CREATE, Fault.LOCK_TIMEOUT)
        with pytest.raises(stripe.StripeError) as caught:
            await create(api)
        assert refused_with(caught.value) == (409, "lock_timeout")
        await create(api)
        assert customers(stand_in) == 1


async def test_a_fault_may_wait_and_come_more_than_once() -> None:
    async with asked() as (stand_in, api):
        stand_in.faults.next(CREATE, Fault.RATE_LIMITED, skip=1, times=2)
        await create(api, key="key-0")
        for number in (1, 2):
            with pytest.raises(stripe.RateLimitError):
                await create(api, key=f"key-{number}")
        await create(api, key="key-3")
        assert customers(stand_in) == 2


async def test_a_fault_may_be_of_one_object_only() -> None:
    async with asked() as (stand_in, api):
        _, schedule = await commit_with_schedule(stand_in, api)
        stand_in.faults.next(f"POST /v1/subscription_schedules/{schedule.id}/release", Fault.ERROR_BEFORE)
        with pytest.raises(stripe.APIError):
            await api.subscription_schedules.release_async(schedule.id)
        assert stand_in.one("subscription_schedule", schedule.id)["status"] == "active"


@pytest.mark.parametrize(
    ("fault", "code"), [(Fault.DECLINED, "card_declined"), (Fault.CHALLENGE, "authentication_required")]
)
async def test_a_payment_that_fails_is_402_and_remembered_for_its_key(fault: Fault, code: str) -> None:
    async with asked() as (stand_in, api):
        subscription = await subscribed(stand_in, api)
        invoice = await api.invoices.create_async({"customer": subscription.customer, "auto_advance": False})
        await api.invoice_items.create_async(
            {"customer": subscription.customer, "invoice": invoice.id, "amount": 5_400, "currency": "usd"}
        )
        stand_in.faults.next("POST /v1/invoices/{invoice}/pay", fault)
        for _ in range(2):
            with pytest.raises(stripe.CardError) as caught:
                await api.invoices.pay_async(invoice.id, {}, {"idempotency_key": "pay"})
            assert (caught.value.http_status, caught.value.code) == (402, code)
        assert stand_in.one("invoice", invoice.id)["attempt_count"] == 1
        assert (await api.invoices.pay_async(invoice.id)).status == "paid"
