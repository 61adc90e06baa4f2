"""The recorded lives, or generated ones of the same shapes, in any order and with duplicates (MS-3)."""

from collections.abc import Callable
from datetime import datetime
from random import Random
from typing import Any

import pytest

from bursar.billing.account import Account, Profile
from bursar.billing.catalogue import Catalogue, EarlybirdTerms, KiloclawTerms, Prices
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.following import STATUS_OF
from bursar.billing.kiloclaw.operations.schedule import apply_kept, keep_schedule
from bursar.billing.kiloclaw.reads import SubscriptionsRead, read_targets, subscriptions_read
from bursar.billing.kiloclaw.rows import Hosting, hosting_of
from bursar.billing.kiloclaw.schedule_events import schedule_event
from bursar.billing.kiloclaw.scheduling import KeepAsked
from bursar.billing.kiloclaw.stripe_events import invoice_event, subscription_event
from bursar.billing.operations import Ended, Failure, Journal, OperationFacts, Plan, advance
from bursar.billing.steps import StepKind
from bursar.billing.stripe.calls import Call, Method
from bursar.billing.stripe.objects import StripeInvoiceEvent, StripeSubscription, SubscriptionEvent
from bursar.billing.stripe.schedules import ScheduleEvent, StripeSchedule
from bursar.service.demo.generator import generated_lives
from bursar.service.demo.lives import Life, recorded_lives
from tests.billing.kiloclaw.making import CATALOGUE, DAY, NOW

LIVES = recorded_lives() or generated_lives()
KINDS = ("customer.subscription.", "subscription_schedule.", "invoice.paid", "invoice.payment_failed")
SCHEDULE = "subscription_schedule"
MAX_TURNS = 20


class ScheduleAtTheEnd:
    """Stripe's schedule at the end of a life: what stands there, or what is made there."""

    def __init__(self, life: Life, finals: list[StripeSubscription]) -> None:
        self._subscriptions = {one.id: one for one in finals}
        objects = (event["data"]["object"] for event in life.events)
        self._known = {one["id"]: StripeSchedule.model_validate(one) for one in objects if one["object"] == SCHEDULE}
        self._commit_price, self._standard_price = life.prices["commit"], life.prices["standard"]

    def carry_out(self, plan: Callable[[], Plan]) -> Ended:
        journal = Journal()
        for _ in range(MAX_TURNS):
            following = advance(plan, journal)
            if isinstance(following, Ended):
                return following
            assert not isinstance(following, Failure)
            journal = journal.answered(following, self._answer(following).model_dump(mode="json"))
        raise AssertionError("the plan does not end")

    def commit_ends_at(self, subscription: StripeSubscription) -> datetime | None:
        """The end of the running commit phase."""
        if subscription.schedule is None:
            return subscription.items[0].current_period_end if self._is_commit(subscription) else None
        phase = self._known[subscription.schedule].remaining[0]
        return phase.end_date if phase.items[0].price == self._commit_price else None

    def _is_commit(self, subscription: StripeSubscription) -> bool:
        return subscription.status == "active" and subscription.items[0].price == self._commit_price

    def _answer(self, call: Call) -> StripeSubscription | StripeSchedule:
        if call.method is Method.RETRIEVE_SUBSCRIPTION:
            return self._subscriptions[call.target or ""]
        if call.method is Method.RETRIEVE_SCHEDULE:
            return self._known[call.target or ""]
        assert call.method in (Method.CREATE_SCHEDULE, Method.UPDATE_SCHEDULE), f"nothing here answers {call.name}"
        return self._made(next(one for one in self._subscriptions.values() if self._is_commit(one)), call)

    def _made(self, subscription: StripeSubscription, call: Call) -> StripeSchedule:
        item = subscription.items[0]
        bounds = {"start_date": item.current_period_start, "end_date": item.current_period_end}
        phase = {**bounds, "items": [{"price": item.price, "quantity": 1}]}
        sold = [{"price": self._standard_price}]
        after = {"start_date": bounds["end_date"], "end_date": bounds["end_date"] + 30 * DAY, "items": sold}
        written = {"phases": [phase, after], "metadata": call.params.get("metadata", {})}
        made = {"id": "sub_sched_made", "status": "active", "phases": [phase], "current_phase": bounds}
        return StripeSchedule.model_validate({**made, **(written if call.target else {})})


class Outside:
    """Stripe at the end of a life: what any read of it answers."""

    def __init__(self, life: Life) -> None:
        self.catalogue = Catalogue(
            kiloclaw=KiloclawTerms(earlybird=EarlybirdTerms(access_until=CATALOGUE.kiloclaw.earlybird.access_until)),
            prices=Prices(standard=(life.prices["standard"],), commit=(life.prices["commit"],)),
        )
        self.finals = [self._final(life, raw) for raw in life.final]
        self._stripe = ScheduleAtTheEnd(life, self.finals)

    def commit_ends_at(self, subscription: StripeSubscription) -> datetime | None:
        """When Stripe ends the commitment."""
        return self._stripe.commit_ends_at(subscription)

    def play(self, account: Account, events: list[dict[str, Any]]) -> Account:
        """Deliver the events in that order; reads are answered at once, second deliveries dropped by the inbox."""
        seen: set[str] = set()
        for event in events:
            if event["id"] not in seen:
                seen.add(event["id"])
                account = self._follow_steps(self._decide(account, event))
        return account

    def _follow_steps(self, decision: Decision) -> Account:
        for _ in range(MAX_TURNS):
            if not decision.steps:
                return decision.account
            decision = self._follow_step(decision)
        raise AssertionError("the steps do not end")

    def _follow_step(self, decision: Decision) -> Decision:
        """Carry out the first step; the others stay to be done after it."""
        step, *others = decision.steps
        if step.kind is StepKind.KEEP_SCHEDULE:
            asked = KeepAsked.model_validate(step.payload["asked"])
            ended = self._stripe.carry_out(lambda: keep_schedule(asked))
            done = apply_kept(decision.account, asked, ended, OperationFacts(self.catalogue, NOW, "step:2"))
        else:
            version = read_targets(decision.account).row_version
            read = SubscriptionsRead(tuple(self.finals), version, NOW)
            done = subscriptions_read(decision.account, read, self.catalogue, "step:1")
        return Decision(done.account, (*others, *done.steps))

    def _decide(self, account: Account, event: dict[str, Any]) -> Decision:
        if event["type"].startswith("invoice."):
            return invoice_event(account, StripeInvoiceEvent.model_validate(event).read(), self.catalogue)
        if event["type"].startswith("subscription_schedule."):
            return schedule_event(account, ScheduleEvent.model_validate(event), self.catalogue)
        return subscription_event(account, SubscriptionEvent.model_validate(event), self.catalogue)

    @staticmethod
    def _final(life: Life, raw: dict[str, Any]) -> StripeSubscription:
        last = next(
            event["data"]["object"]
            for event in reversed(life.events)
            if event["type"].startswith("customer.subscription.") and event["data"]["object"]["id"] == raw["id"]
        )
        overlay = {name: raw[name] for name in ("status", "cancel_at_period_end", "ended_at", "schedule")}
        return StripeSubscription.model_validate({**last, **overlay, "items": {"data": raw["items"]}})


def expected(outside: Outside) -> tuple[Any, ...] | None:
    """What Stripe says of the live one of our subscriptions, else of the last."""
    ours = [one for one in outside.finals if one.is_kiloclaw]
    if not ours:
        return None
    last = next((one for one in ours if STATUS_OF[one.status] != "canceled"), ours[-1])
    end = last.items[0].current_period_end
    return (
        last.id,
        STATUS_OF[last.status],
        outside.catalogue.prices.plan_of(last.items[0].price),
        outside.commit_ends_at(last),
        min(end, last.ended_at) if last.ended_at else end,
        last.cancel_at_period_end,
    )


def facts(account: Account) -> tuple[Any, ...] | None:
    row = hosting_of(account).subscription
    if row is None:
        return None
    return (
        row.stripe_subscription_id,
        row.status,
        row.plan,
        row.commit_ends_at,
        row.current_period_end,
        row.cancel_at_period_end,
    )


def our_events(life: Life) -> list[dict[str, Any]]:
    return [event for event in life.events if event["type"].startswith(KINDS)]


def user_account(life: Life) -> Account:
    user = next((raw["metadata"]["userId"] for raw in life.final if "userId" in raw["metadata"]), "nobody")
    return Account(f"user:{user}", {Hosting: Hosting(), Profile: Profile(user)})


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.name)
@pytest.mark.parametrize("seed", range(40))
def test_ms_3_any_order_doubled_ends_as_stripe_says(life: Life, seed: int) -> None:
    outside = Outside(life)
    shuffled = our_events(life) * 2
    Random(seed).shuffle(shuffled)

    assert facts(outside.play(user_account(life), shuffled)) == expected(outside)


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.name)
def test_ms_3_in_order_ends_as_stripe_says(life: Life) -> None:
    outside = Outside(life)

    assert facts(outside.play(user_account(life), our_events(life))) == expected(outside)
