"""Subscriptions through months of the stand-in's clock, by way of the official SDK."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bursar.service.stripe_stand_in.world import COMMIT, STANDARD, AfterDunning, Card, Policy
from tests.stripe.asking import OURS, SIX_MONTHS, commit_with_schedule, sdk, subscribed, then_standard
from tests.stripe.stand_in import StripeStandIn, stripe_stand_in, unix

START = datetime(2026, 1, 31, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)


def month(number: int, day: int) -> datetime:
    return START.replace(month=number, day=day)


def paid_cents(stand_in: StripeStandIn) -> list[int]:
    return [event["data"]["object"]["amount_paid"] for event in stand_in.events if event["type"] == "invoice.paid"]


def live_price(stand_in: StripeStandIn, subscription_id: str) -> str:
    price: str = stand_in.subscription(subscription_id)["items"]["data"][0]["price"]["id"]
    return price


def statuses(stand_in: StripeStandIn) -> list[str]:
    """Of the subscription, by its events, each once."""
    seen = [one["data"]["object"] for one in stand_in.events if one["type"].startswith("customer.subscription.")]
    told = [one["status"] for one in seen]
    return [status for before, status in zip([None, *told], told, strict=False) if status != before]


def bounds(phase: Any) -> tuple[int, int]:
    return phase["start_date"], phase["end_date"]


async def test_commit_becomes_standard_in_the_seventh_month_and_the_schedule_lets_go() -> None:
    async with stripe_stand_in(now=START) as stand_in, sdk(stand_in) as api:
        subscription, schedule = await commit_with_schedule(stand_in, api)
        assert bounds(schedule.phases[0]) == (unix(START), unix(month(7, 31)))
        await stand_in.advance(month(7, 31) - HOUR)
        assert (live_price(stand_in, subscription.id), paid_cents(stand_in)) == (COMMIT.id, [5_400])
        await stand_in.advance(month(7, 31) + HOUR)
        assert (live_price(stand_in, subscription.id), paid_cents(stand_in)) == (STANDARD.id, [5_400, 2_500])
        assert bounds(stand_in.one("subscription_schedule", schedule.id)["current_phase"])[0] == unix(month(7, 31))
        await stand_in.advance(month(8, 31) + HOUR)
        assert stand_in.subscription(subscription.id)["schedule"] is None
        let_go = stand_in.one("subscription_schedule", schedule.id)
        assert (let_go["status"], let_go["released_subscription"]) == ("released", subscription.id)
        assert paid_cents(stand_in) == [5_400, 2_500, 2_500]


async def test_the_last_phase_may_also_leave_the_schedule_completed() -> None:
    async with (
        stripe_stand_in(now=START, policy=Policy(last_phase_leaves="completed")) as stand_in,
        sdk(stand_in) as api,
    ):
        subscription, schedule = await commit_with_schedule(stand_in, api)
        await stand_in.advance(month(8, 31) + HOUR)
        left = stand_in.one("subscription_schedule", schedule.id)
        assert (left["status"], left["completed_at"]) == ("completed", unix(month(8, 31)))
        assert stand_in.subscription(subscription.id)["status"] == "active"


async def test_months_keep_the_anchors_day_and_end_early_where_the_month_does() -> None:
    async with stripe_stand_in(now=START) as stand_in, sdk(stand_in) as api:
        subscription = await subscribed(stand_in, api)
        ends = []
        for number, day in ((2, 1), (2, 28), (3, 31)):
            await stand_in.advance(month(number, day) + HOUR)
            ends.append(stand_in.subscription(subscription.id)["items"]["data"][0]["current_period_end"])
        assert ends == [unix(month(2, 28)), unix(month(3, 31)), unix(month(4, 30))]


async def test_a_renewal_is_a_draft_for_an_hour() -> None:
    async with stripe_stand_in(now=START) as stand_in, sdk(stand_in) as api:
        subscription = await subscribed(stand_in, api)
        await stand_in.advance(month(2, 28))
        invoice = stand_in.subscription(subscription.id)["latest_invoice"]
        assert stand_in.one("invoice", invoice)["status"] == "draft"
        await stand_in.advance(month(2, 28) + HOUR)
        assert stand_in.one("invoice", invoice)["status"] == "paid"


async def test_delayed_billing_is_a_trial_then_commit_then_standard() -> None:
    starts_at = month(3, 15)
    async with stripe_stand_in(now=START) as stand_in, sdk(stand_in) as api:
        subscription = await subscribed(stand_in, api, COMMIT, subscription_data={"trial_end": unix(starts_at)})
        assert (subscription.status, subscription.trial_end) == ("trialing", unix(starts_at))
        schedule = await api.subscription_schedules.create_async({"from_subscription": subscription.id})
        first = schedule.phases[0]
        assert (bounds(first), first.trial_end) == ((unix(START), unix(starts_at)), unix(starts_at))
        items = [{"price": COMMIT.id, "quantity": 1}]
        prelaunch = {"start_date": first.start_date, "end_date": first.end_date, "items": items}
        phases = [{**prelaunch, "trial_end": first.trial_end}, *then_standard({"items": items, "duration": SIX_MONTHS})]
        await api.subscription_schedules.update_async(schedule.id, {"phases": phases, "proration_behavior": "none"})
        await stand_in.advance(starts_at - HOUR)
        assert paid_cents(stand_in) == [0]
        await stand_in.advance(starts_at + HOUR)
        assert paid_cents(stand_in) == [0, 5_400]
        await stand_in.advance(month(9, 15) + HOUR)
        assert paid_cents(stand_in) == [0, 5_400, 2_500]
        assert statuses(stand_in) == ["trialing", "active"]
        assert any(event["type"] == "customer.subscription.trial_will_end" for event in stand_in.events)


async def test_a_trial_that_an_update_of_the_running_phase_leaves_out_ends() -> None:
    async with stripe_stand_in(now=START) as stand_in, sdk(stand_in) as api:
        trial = {"trial_end": unix(month(3, 15))}
        subscription = await subscribed(stand_in, api, COMMIT, subscription_data=trial)
        schedule = await api.subscription_schedules.create_async({"from_subscription": subscription.id})
        phase = {"start_date": unix(START), "items": [{"price": COMMIT.id}], "duration": SIX_MONTHS}
        await stand_in.advance(START + HOUR)
        await api.subscription_schedules.update_async(schedule.id, {"phases": [phase]})
        assert stand_in.subscription(subscription.id)["status"] == "active"


async def test_a_commit_paid_ahead_is_a_trial_phase_that_bills_nothing_at_the_old_boundary() -> None:
    async with stripe_stand_in(now=START) as stand_in, sdk(stand_in) as api:
        subscription, schedule = await commit_with_schedule(stand_in, api)
        items = [{"price": COMMIT.id, "quantity": 1}]
        running = {"start_date": unix(START), "end_date": unix(month(7, 31)), "items": items}
        ahead = {"items": items, "duration": SIX_MONTHS, "trial": True}
        phases = [running, *then_standard(ahead)]
        await api.subscription_schedules.update_async(schedule.id, {"phases": phases, "proration_behavior": "none"})
        shown = await api.subscription_schedules.retrieve_async(schedule.id)
        assert (shown.phases[1].trial, shown.phases[1].trial_end) == (True, shown.phases[1].end_date)
        await stand_in.advance(month(12, 31))
        assert paid_cents(stand_in) == [5_400, 0]
        await stand_in.advance(datetime(2027, 1, 31, 10, tzinfo=UTC))
        assert paid_cents(stand_in) == [5_400, 0, 2_500]
        assert live_price(stand_in, subscription.id) == STANDARD.id


async def test_a_cancellation_at_the_periods_end_is_taken_back_and_made_again() -> None:
    async with stripe_stand_in(now=START) as stand_in, sdk(stand_in) as api:
        subscription = await subscribed(stand_in, api)
        for wanted in (True, False, True):
            answer = await api.subscriptions.update_async(subscription.id, {"cancel_at_period_end": wanted})
            assert (answer.cancel_at is not None, answer.canceled_at is not None) == (wanted, wanted)
        await stand_in.advance(month(3, 31))
        ended = stand_in.subscription(subscription.id)
        assert (ended["status"], ended["ended_at"]) == ("canceled", unix(month(2, 28)))
        assert paid_cents(stand_in) == [2_500]


@pytest.mark.parametrize("released", [False, True])
async def test_a_schedule_made_while_a_cancellation_is_pending_cancels_unless_it_is_released(*, released: bool) -> None:
    async with stripe_stand_in(now=START) as stand_in, sdk(stand_in) as api:
        subscription = await subscribed(stand_in, api)
        await api.subscriptions.update_async(subscription.id, {"cancel_at_period_end": True})
        schedule = await api.subscription_schedules.create_async({"from_subscription": subscription.id})
        assert schedule.end_behavior == "cancel"
        assert stand_in.subscription(subscription.id)["cancel_at"] == unix(month(2, 28))
        if released:
            await api.subscription_schedules.release_async(schedule.id)
        await stand_in.advance(month(3, 1))
        assert stand_in.subscription(subscription.id)["status"] == ("active" if released else "canceled")
        left = stand_in.one("subscription_schedule", schedule.id)["status"]
        assert left == ("released" if released else "completed")


@pytest.mark.parametrize("after", list(AfterDunning))
async def test_dunning_ends_as_the_accounts_settings_say(after: AfterDunning) -> None:
    policy = Policy(retry_days=(3, 5), after_dunning=after)
    async with stripe_stand_in(now=START, policy=policy) as stand_in, sdk(stand_in) as api:
        await subscribed(stand_in, api, card=Card.FAILS_LATER)
        await stand_in.advance(month(3, 10))
        ends = [] if after is AfterDunning.PAST_DUE else [after.value]
        assert statuses(stand_in) == ["active", "past_due", *ends]
        failed = [one["created"] for one in stand_in.events if one["type"] == "invoice.payment_failed"]
        assert [(at - failed[0]) // 86_400 for at in failed] == [0, 3, 5]


async def test_a_new_card_pays_the_next_retry() -> None:
    async with stripe_stand_in(now=START) as stand_in, sdk(stand_in) as api:
        subscription = await subscribed(stand_in, api, card=Card.CHALLENGE)
        await stand_in.advance(month(3, 1))
        assert stand_in.subscription(subscription.id)["status"] == "past_due"
        stand_in.give_card(subscription.customer, Card.GOOD)
        await stand_in.advance(month(3, 4))
        assert statuses(stand_in) == ["active", "past_due", "active"]


async def test_a_first_payment_that_never_comes_expires_after_23_hours() -> None:
    async with stripe_stand_in(now=START) as stand_in, sdk(stand_in) as api:
        customer = await api.customers.create_async({"email": "user-1@example.com"})
        made = stand_in.subscribe(customer.id, metadata=OURS)
        await stand_in.advance(START + 24 * HOUR)
        assert (made["status"], statuses(stand_in)) == ("incomplete", ["incomplete", "incomplete_expired"])
