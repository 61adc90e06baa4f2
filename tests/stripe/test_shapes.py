"""Its events look like the recorded ones, and everything agrees with Stripe's description."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stripe

from bursar.billing.stripe.objects import StripeInvoice, StripeObject, StripeSubscription
from bursar.billing.stripe.schedules import StripeSchedule
from bursar.service.stripe_stand_in.world import Card
from tests.stripe.asking import commit_with_schedule, sdk, subscribed
from tests.stripe.stand_in import stripe_stand_in
from tests.stripe.validation import DESCRIPTION, description

START = datetime(2026, 1, 31, 9, tzinfo=UTC)
RECORDED = DESCRIPTION.with_name("events")
VIEWS: dict[str, type[StripeObject]] = {
    "subscription": StripeSubscription,
    "invoice": StripeInvoice,
    "subscription_schedule": StripeSchedule,
}
IDS_ONLY = {"price"}  # the recorder shows the price of a phase's item whole; Stripe does where asked to expand it
Keys = dict[str, set[str]]

has_recordings = pytest.mark.skipif(not RECORDED.exists(), reason="the recorded events are not beside the project")
has_description = pytest.mark.skipif(description() is None, reason="Stripe's description is not beside the project")


async def a_life() -> list[dict[str, Any]]:
    """Of a commit that becomes standard, fails to pay, and is canceled."""
    async with stripe_stand_in(now=START) as stand_in, sdk(stand_in) as api:
        subscription, _ = await commit_with_schedule(stand_in, api)
        stand_in.give_card(subscription.customer, Card.FAILS_LATER)
        await stand_in.advance(START + timedelta(days=230))
        return stand_in.events


def recorded() -> Iterator[dict[str, Any]]:
    for file in sorted(RECORDED.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def keys_of(events: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> Keys:
    """The keys of each object of each kind, by the path to it."""
    found: Keys = {}
    for event in events:
        thing = event["data"]["object"]
        if thing["object"] in VIEWS:
            _gather(thing, thing["object"], found)
    return found


def _gather(value: Any, path: str, found: Keys) -> None:
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, dict) and not path.endswith("metadata"):
            found.setdefault(path, set()).update(one)
            for name, inner in one.items():
                if not (path.endswith("phases.items") and name in IDS_ONLY):
                    _gather(inner, f"{path}.{name}", found)


@has_recordings
async def test_its_subscriptions_invoices_and_schedules_have_the_keys_of_the_recorded_ones() -> None:
    ours, theirs = keys_of(await a_life()), keys_of(recorded())
    differing = {path: ours[path] ^ theirs[path] for path in ours.keys() & theirs.keys() if ours[path] != theirs[path]}
    assert VIEWS.keys() <= ours.keys() & theirs.keys()
    assert differing == {}


@has_recordings
async def test_its_kinds_of_events_are_those_that_are_recorded() -> None:
    """Stripe also tells of payment intents behind invoices, which the recorder leaves out."""
    ours, theirs = ({event["type"] for event in events} for events in (await a_life(), recorded()))
    unrecorded = {"invoice_payment.paid", "payment_intent.payment_failed", "checkout.session.completed"}
    unrecorded.add("subscription_schedule.canceled")
    assert ours - theirs == unrecorded


async def test_updates_say_what_changed_and_seconds_are_whole() -> None:
    events = await a_life()
    assert all(isinstance(event["created"], int) for event in events)
    updates = [event for event in events if event["type"] == "customer.subscription.updated"]
    past_due = next(event for event in updates if event["data"]["object"]["status"] == "past_due")
    assert past_due["data"]["previous_attributes"] == {"status": "active"}
    assert all("previous_attributes" in event["data"] for event in updates)


async def test_our_views_read_what_it_sends() -> None:
    for event in await a_life():
        thing = event["data"]["object"]
        if view := VIEWS.get(thing["object"]):
            view.model_validate(thing)


async def send_iterations() -> None:
    """What schedules had in older API versions."""
    async with stripe_stand_in(now=START) as stand_in, sdk(stand_in) as api:
        _, schedule = await commit_with_schedule(stand_in, api)
        phase = {"start_date": int(START.timestamp()), "items": [{"price": "price_commit"}], "iterations": 1}
        with pytest.raises(stripe.InvalidRequestError):
            await api.subscription_schedules.update_async(schedule.id, {"phases": [phase]})


async def read_a_status_that_is_none() -> None:
    async with stripe_stand_in(now=START) as stand_in, sdk(stand_in) as api:
        subscription = await subscribed(stand_in, api)
        stand_in.world.get("subscription", subscription.id)["status"] = "asleep"
        await api.subscriptions.retrieve_async(subscription.id)


@has_description
async def test_a_parameter_that_stripe_does_not_know_is_refused_and_fails_the_test() -> None:
    told = r"POST /v1/subscription_schedules/\{schedule\}: request, phases\.0.*iterations"
    with pytest.raises(AssertionError, match=told):
        await send_iterations()


@has_description
async def test_an_answer_that_stripe_would_not_give_fails_the_test() -> None:
    told = r"GET /v1/subscriptions/\{subscription_exposed_id\}: answer 200, status"
    with pytest.raises(AssertionError, match=told):
        await read_a_status_that_is_none()
