"""What Stripe refuses, the stand-in refuses."""

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stripe

from bursar.service.stripe_stand_in.checkout import CardDeclined
from bursar.service.stripe_stand_in.refusals import StripeRefusal
from bursar.service.stripe_stand_in.world import COMMIT, Card
from tests.stripe.asking import SIX_MONTHS, a_session, commit_with_schedule, sdk, subscribed
from tests.stripe.stand_in import StripeStandIn, stripe_stand_in, unix

START = datetime(2026, 3, 1, tzinfo=UTC)


@asynccontextmanager
async def asked() -> AsyncIterator[tuple[StripeStandIn, Any]]:
    async with stripe_stand_in(now=START) as stand_in, sdk(stand_in) as api:
        yield stand_in, api


async def refused(call: Awaitable[object], message: str, code: str | None = None, status: int = 400) -> None:
    with pytest.raises(stripe.StripeError, match=message) as caught:
        await call
    assert (caught.value.http_status, caught.value.code) == (status, code)


async def test_a_managed_subscription_is_not_canceled_past_its_schedule() -> None:
    async with asked() as (_, api):
        subscription, _ = await commit_with_schedule(_, api)
        change = api.subscriptions.update_async(subscription.id, {"cancel_at_period_end": True})
        await refused(change, "managed by the subscription schedule")


async def test_a_subscription_has_one_schedule() -> None:
    async with asked() as (stand_in, api):
        subscription, _ = await commit_with_schedule(stand_in, api)
        again = api.subscription_schedules.create_async({"from_subscription": subscription.id})
        await refused(again, "already attached to a schedule")


async def test_from_subscription_stands_alone() -> None:
    async with asked() as (stand_in, api):
        subscription = await subscribed(stand_in, api)
        params = {"from_subscription": subscription.id, "end_behavior": "release"}
        await refused(api.subscription_schedules.create_async(params), "You cannot set `end_behavior`")


@pytest.mark.parametrize("verb", ["release", "cancel", "update"])
async def test_a_schedule_that_has_ended_stays_so(verb: str) -> None:
    async with asked() as (stand_in, api):
        subscription, schedule = await commit_with_schedule(stand_in, api)
        released = await api.subscription_schedules.release_async(schedule.id)
        assert (released.status, released.released_subscription) == ("released", subscription.id)
        await refused(getattr(api.subscription_schedules, f"{verb}_async")(schedule.id, {}), "`released` status")


@pytest.mark.parametrize(
    ("start", "refusal"), [({}, "phases.0..start_date"), ({"start_date": unix(START) + 60}, "current phase")]
)
async def test_an_update_names_the_running_phase_by_its_start(start: dict[str, int], refusal: str) -> None:
    async with asked() as (stand_in, api):
        _, schedule = await commit_with_schedule(stand_in, api)
        phase = {**start, "items": [{"price": COMMIT.id}], "duration": SIX_MONTHS}
        code = None if start else "parameter_missing"
        await refused(api.subscription_schedules.update_async(schedule.id, {"phases": [phase]}), refusal, code)
        assert len(stand_in.one("subscription_schedule", schedule.id)["phases"]) == 2


async def test_a_canceled_subscription_is_not_found_by_another_cancellation() -> None:
    async with asked() as (stand_in, api):
        subscription, schedule = await commit_with_schedule(stand_in, api)
        assert (await api.subscriptions.cancel_async(subscription.id)).status == "canceled"
        assert stand_in.one("subscription_schedule", schedule.id)["status"] == "canceled"
        await refused(api.subscriptions.cancel_async(subscription.id), "No such", "resource_missing", 404)
        await refused(
            api.subscriptions.update_async(subscription.id, {"cancel_at_period_end": True}), "A canceled subscription"
        )


async def test_a_trial_at_checkout_ends_two_days_ahead_or_later() -> None:
    async with asked() as (_, api):
        trial = {"trial_end": unix(START + timedelta(hours=47))}
        await refused(a_session(api, subscription_data=trial), "at least 2 days")


async def test_a_declined_card_leaves_the_session_open_and_only_open_ones_expire() -> None:
    async with asked() as (stand_in, api):
        session = await a_session(api)
        with pytest.raises(CardDeclined):
            await stand_in.customer_pays(session.id, Card.DECLINED)
        assert (await api.checkout.sessions.expire_async(session.id)).status == "expired"
        await refused(api.checkout.sessions.expire_async(session.id), "can be expired")
        with pytest.raises(StripeRefusal, match="expired"):
            await stand_in.customer_pays(session.id)


async def test_a_session_expires_by_the_clock_after_a_day() -> None:
    async with asked() as (stand_in, api):
        session = await a_session(api)
        await stand_in.advance(START + timedelta(days=2))
        told = [(event["type"], event["created"]) for event in stand_in.events[-1:]]
        assert told == [("checkout.session.expired", unix(START + timedelta(days=1)))]
        assert (await api.checkout.sessions.list_async({"customer": session.customer})).data[0].url is None


async def test_what_the_stand_in_does_not_know_it_says() -> None:
    async with asked() as (_, api):
        await refused(
            api.subscription_schedules.create_async({"customer": "cus_1"}), "does not know", "not_in_stand_in"
        )


async def test_another_api_version_or_no_key_is_refused() -> None:
    async with asked() as (stand_in, _):
        http = stripe.HTTPXClient(timeout=5)
        for key, version in (("sk_test_1", "2020-08-27"), ("nothing", stripe.api_version)):
            client = stripe.StripeClient(
                key, stripe_version=version, base_addresses={"api": stand_in.base_url}, http_client=http
            )
            with pytest.raises(stripe.StripeError, match=r"API version|API Key"):
                await client.v1.events.list_async()
        await http.close_async()  # type: ignore[no-untyped-call]
