"""Deliveries: signed, in the order that the test chooses, again where they were not taken."""

from collections import Counter
from datetime import UTC, datetime

import orjson
import stripe

from tests.stripe.asking import sdk, subscribed
from tests.stripe.stand_in import WEBHOOK_SECRET, stripe_stand_in

START = datetime(2026, 3, 1, tzinfo=UTC)


class Inbox:
    """Takes deliveries whose signature the SDK finds right, each event's first one only when told to."""

    def __init__(self, *, refuses_first: bool = False) -> None:
        self.refuses_first = refuses_first
        self.taken: list[str] = []
        self._seen: set[str] = set()

    async def take(self, body: bytes, headers: dict[str, str]) -> int:
        stripe.WebhookSignature.verify_header(body.decode(), headers["Stripe-Signature"], WEBHOOK_SECRET, tolerance=60)
        key = orjson.loads(body)["id"]
        if self.refuses_first and key not in self._seen:
            self._seen.add(key)
            return 503
        self.taken.append(key)
        return 200


async def test_events_are_posted_signed_and_once() -> None:
    async with stripe_stand_in(now=START) as stand_in, sdk(stand_in) as api:
        await subscribed(stand_in, api)
        inbox = Inbox()
        assert await stand_in.deliver_to(inbox.take) == len(stand_in.events)
        assert inbox.taken == [event["id"] for event in stand_in.events]
        assert await stand_in.deliver_to(inbox.take) == 0


async def test_they_may_be_shuffled_and_doubled_by_a_seed() -> None:
    async with stripe_stand_in(now=START) as stand_in, sdk(stand_in) as api:
        await subscribed(stand_in, api)
        inbox = Inbox()
        await stand_in.deliver_to(inbox.take, shuffle=3, doubled=0.5)
        happened = [event["id"] for event in stand_in.events]
        assert set(inbox.taken) == set(happened)
        assert list(dict.fromkeys(inbox.taken)) != happened
        assert set(Counter(inbox.taken).values()) == {1, 2}


async def test_what_was_not_taken_comes_again() -> None:
    async with stripe_stand_in(now=START) as stand_in, sdk(stand_in) as api:
        await subscribed(stand_in, api)
        inbox = Inbox(refuses_first=True)
        await stand_in.deliver_to(inbox.take)
        assert sorted(inbox.taken) == sorted(event["id"] for event in stand_in.events)
