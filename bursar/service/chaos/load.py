"""What is delivered: subscriptions that change, and credits that are bought and refunded, all countable afterwards."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random

from bursar.billing.values import Value
from bursar.handlers.messages import HANDLED_STRIPE_TYPES
from bursar.service.demo.generator import BEGINS_AT, generate_events
from bursar.service.demo.lives import JsonObject, Life, all_events, last_instant
from bursar.service.demo.story import Story

EVENTS_PER_PAYMENT = 2  # it succeeds, and a part of it is refunded
SHARE_OF_PAYMENTS = 10  # every tenth event begins one
DOUBLED = 0.1
MAX_LATE = 200  # an event comes at most so many places after its own
MAX_LATER = 1_000  # and its second delivery so many
MICRODOLLARS_PER_CENT = 10_000


class Payment(Value):
    """Credits bought and partly given back; amounts in cents."""

    user_id: str
    payment_id: str
    amount_cents: int
    refunded_cents: int

    @property
    def left_microdollars(self) -> int:
        return (self.amount_cents - self.refunded_cents) * MICRODOLLARS_PER_CENT


class Load(Value):
    """`lives` say how every row must stand in the end, `payments` every balance; `events` are different ones."""

    lives: Sequence[Life]
    payments: Sequence[Payment]
    events: Sequence[JsonObject]

    @property
    def business_time(self) -> datetime:
        """Behind every event, since no read from Stripe may be older than one."""
        return datetime.fromtimestamp(last_instant(self.lives), UTC) + timedelta(hours=6)


def chaos_load(users: int, events: int, seed: int) -> Load:
    """So many events of so many users, the same for the same seed. ValueError where there are too few for the users."""
    stories = [_buyer(user_number, seed) for user_number in range(users)]
    payments = [_payment(stories[number % users], number) for number in range(events // SHARE_OF_PAYMENTS)]
    left = events - EVENTS_PER_PAYMENT * len(payments)
    lives = generate_events(users, left + users, seed)  # of each user one, the customer's, is not handled
    told = [*all_events(lives), *(event for story in stories for event in story.events)]
    handled = [event for event in told if event["type"] in HANDLED_STRIPE_TYPES]
    return Load(lives, payments, sorted(handled, key=lambda event: (event["created"], event["id"])))


def delivery_order(events: Sequence[JsonObject], seed: int) -> list[JsonObject]:
    """Every event once and a tenth of them twice, a little out of order; the same for the same seed."""
    draw = Random(f"order:{seed}")  # noqa: S311 - an order to be repeated, not a secret
    placed = [(place + draw.uniform(0, MAX_LATE), place) for place in range(len(events))]
    twice = draw.sample(placed, round(DOUBLED * len(placed)))
    placed += [(at + draw.uniform(0, MAX_LATER), place) for at, place in twice]
    return [events[place] for _, place in sorted(placed)]


def _buyer(number: int, seed: int) -> Story:
    """The user of the same number in the load of subscriptions."""
    story = Story(f"load-{seed}-{number:05d}", BEGINS_AT, f"credits:{seed}:{number}")
    story.become_customer()
    story.add_card()
    return story


def _payment(story: Story, number: int) -> Payment:
    amount, refunded = 500 + number % 50 * 100, 100 + number % 4 * 100
    story.wait(hours=1)
    story.top_up_and_refund(amount, refunded)
    succeeded = next(one for one in reversed(story.events) if one["type"] == "payment_intent.succeeded")
    assert story.user_id, "a buyer is a user"
    return Payment(story.user_id, succeeded["data"]["object"]["id"], amount, refunded)
