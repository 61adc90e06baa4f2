"""The recorded lives, or generated ones of the same shapes, in any order and with duplicates (MS-3)."""

from random import Random
from typing import Any

import pytest

from bursar.billing.account import Account, Profile
from bursar.billing.catalogue import Catalogue, EarlybirdTerms, KiloclawTerms, Prices
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.following import STATUS_OF
from bursar.billing.kiloclaw.reads import SubscriptionsRead, read_targets, subscriptions_read
from bursar.billing.kiloclaw.rows import Hosting, hosting_of
from bursar.billing.kiloclaw.stripe_events import invoice_event, subscription_event
from bursar.billing.stripe_objects import InvoiceEvent, StripeSubscription, SubscriptionEvent
from bursar.service.demo.generator import generated_lives
from bursar.service.demo.lives import Life, recorded_lives
from tests.billing.kiloclaw.making import CATALOGUE, NOW

LIVES = recorded_lives() or generated_lives()
KINDS = ("customer.subscription.", "invoice.paid", "invoice.payment_failed")


class Outside:
    """Stripe at the end of a life: what any read of it answers."""

    def __init__(self, life: Life) -> None:
        self.catalogue = Catalogue(
            kiloclaw=KiloclawTerms(earlybird=EarlybirdTerms(access_until=CATALOGUE.kiloclaw.earlybird.access_until)),
            prices=Prices(standard=(life.prices["standard"],), commit=(life.prices["commit"],)),
        )
        self.finals = [self._final(life, raw) for raw in life.final]

    def play(self, account: Account, events: list[dict[str, Any]]) -> Account:
        """Deliver the events in that order; reads are answered at once, second deliveries dropped by the inbox."""
        seen: set[str] = set()
        for event in events:
            if event["id"] not in seen:
                seen.add(event["id"])
                account = self._follow_steps(self._decide(account, event))
        return account

    def _follow_steps(self, decision: Decision) -> Account:
        if not decision.steps:
            return decision.account
        version = read_targets(decision.account).row_version
        read = SubscriptionsRead(tuple(self.finals), version, NOW)
        return subscriptions_read(decision.account, read, self.catalogue, "step:1").account

    def _decide(self, account: Account, event: dict[str, Any]) -> Decision:
        if event["type"].startswith("invoice."):
            return invoice_event(account, InvoiceEvent.model_validate(event))
        return subscription_event(account, SubscriptionEvent.model_validate(event), self.catalogue)

    @staticmethod
    def _final(life: Life, raw: dict[str, Any]) -> StripeSubscription:
        last = next(
            event["data"]["object"]
            for event in reversed(life.events)
            if event["type"].startswith("customer.subscription.") and event["data"]["object"]["id"] == raw["id"]
        )
        overlay = {name: raw[name] for name in ("status", "cancel_at_period_end", "ended_at")}
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
        min(end, last.ended_at) if last.ended_at else end,
        last.cancel_at_period_end,
    )


def facts(account: Account) -> tuple[Any, ...] | None:
    row = hosting_of(account).subscription
    if row is None:
        return None
    return (row.stripe_subscription_id, row.status, row.plan, row.current_period_end, row.cancel_at_period_end)


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
