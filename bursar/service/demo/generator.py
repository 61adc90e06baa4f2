"""The project's own lives at Stripe: the kinds that are recorded, for any number of users, from a seed."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from random import Random

from bursar.service.demo.lives import Life
from bursar.service.demo.story import Story

BEGINS_AT = datetime(2026, 6, 1, 9, tzinfo=UTC)


def _standard_renews(story: Story) -> None:
    story.subscribe("standard")
    for _ in range(3):
        story.renew()


def _past_due_recovers(story: Story) -> None:
    story.subscribe("standard")
    story.add_card("0341")
    story.fail_to_renew()
    story.fail_retry()
    story.add_card()
    story.pay_retry()


def _dunning_cancels(story: Story) -> None:
    story.subscribe("standard")
    story.add_card("0341")
    story.fail_to_renew()
    for _ in range(3):
        story.fail_retry()
    story.end_now("payment_failed")


def _unpaid(story: Story) -> None:
    story.subscribe("standard")
    story.add_card("0341")
    story.fail_to_renew()
    story.fail_retry()
    story.become_unpaid()


def _cancels_at_period_end(story: Story) -> None:
    story.subscribe("standard")
    for change in (story.ask_to_cancel, story.take_back, story.ask_to_cancel):
        story.wait(days=1)
        change()
    story.end_at_period_end()


def _commit_becomes_standard(story: Story) -> None:
    story.subscribe("commit")
    story.plan_phases("standard")
    story.enter_next_phase(1)
    story.run_out_of_phases()


def _switches_to_commit(story: Story) -> None:
    story.subscribe("standard")
    story.wait(days=5)
    story.plan_phases("commit", "standard")
    story.enter_next_phase(1)


def _switch_taken_back(story: Story) -> None:
    story.subscribe("standard")
    story.wait(days=5)
    story.plan_phases("commit", "standard")
    story.wait(days=2)
    story.release_schedule()
    story.renew()


def _delayed_billing(story: Story) -> None:
    story.subscribe("standard", free_days=11)
    story.warn_of_trial_end()
    story.renew()
    story.renew()


def _resubscribes(story: Story) -> None:
    story.subscribe("standard")
    story.wait(days=10)
    story.end_now()
    story.wait(days=20)
    story.subscribe("commit")


def _foreign(story: Story) -> None:
    story.subscribe("addon")
    story.renew()


def _top_up_and_refund(story: Story) -> None:
    story.subscribe("standard")
    story.wait(days=2)
    story.top_up_and_refund(2_000, 500)


KINDS: dict[str, tuple[str, Callable[[Story], None]]] = {
    "standard_renews": ("standard plan, three renewals", _standard_renews),
    "standard_past_due_recovers": ("a renewal is declined, a new card is added, the retry pays", _past_due_recovers),
    "standard_dunning_cancels": ("all retries fail, Stripe cancels", _dunning_cancels),
    "standard_unpaid": ("all retries fail, Stripe marks it unpaid", _unpaid),
    "standard_cancels_at_period_end": ("cancelled, taken back, cancelled again, ends", _cancels_at_period_end),
    "commit_becomes_standard": ("six months commit, then standard, by schedule", _commit_becomes_standard),
    "standard_switches_to_commit": ("a switch scheduled by the user", _switches_to_commit),
    "switch_taken_back": ("a switch is scheduled and its schedule released", _switch_taken_back),
    "delayed_billing": ("bought before billing starts: trialing until then", _delayed_billing),
    "resubscribes": ("cancelled at once, then bought again with another subscription", _resubscribes),
    "foreign_subscription": ("another product's subscription: no metadata of ours", _foreign),
    "refund": ("credits are topped up and refunded in part", _top_up_and_refund),
}


def generated_lives(users: int = len(KINDS), seed: int = 1) -> list[Life]:
    """One life a user, the kinds in turn; the same for the same seed."""
    kinds = list(KINDS)
    return [_generated_life(kinds[number % len(kinds)], number, seed) for number in range(users)]


def _generated_life(kind: str, number: int, seed: int) -> Life:
    note, tell = KINDS[kind]
    user_id = None if kind == "foreign_subscription" else f"user-{seed}-{number:04d}"
    story = Story(user_id, BEGINS_AT + timedelta(minutes=number), f"{seed}:{number}")
    story.open_catalogue()
    story.become_customer()
    story.add_card()
    tell(story)
    return story.life(f"{kind}-{number:04d}", note)


def generate_events(users: int, events: int, seed: int) -> list[Life]:
    """A load: one subscription a user, then updates spread at random until there are `events` events in all lives.

    No two events of a user share a second, and prices are shared, so every final state follows from the events alone.
    """
    if events < 2 * users:
        raise ValueError("a user takes two events at least: the customer and the subscription")
    draw = Random(seed)  # noqa: S311 - a load to be repeated, not a secret
    stories = [_subscriber(number, seed) for number in range(users)]
    changes = (_turn_cancellation, _next_period, Story.touch)
    for _ in range(events - 2 * users):
        story = draw.choice(stories)
        story.wait(hours=1)
        draw.choice(changes)(story)
    return [_subscription_events_only(story.life(f"load-{story.user_id}", "updates")) for story in stories]


@cache
def _shared_catalogue(seed: int) -> Story:
    story = Story(None, BEGINS_AT, f"catalogue:{seed}")
    story.open_catalogue()
    return story


def _subscriber(number: int, seed: int) -> Story:
    story = Story(f"load-{seed}-{number:05d}", BEGINS_AT, f"load:{seed}:{number}")
    story.share_catalogue(_shared_catalogue(seed))
    story.become_customer()
    story.subscribe("standard")
    return story


def _turn_cancellation(story: Story) -> None:
    (story.take_back if story.current["cancel_at_period_end"] else story.ask_to_cancel)()


def _next_period(story: Story) -> None:
    if story.current["cancel_at_period_end"]:
        story.take_back()
    else:
        story.renew()


def _subscription_events_only(life: Life) -> Life:
    kept = ("customer.created", "customer.subscription.created", "customer.subscription.updated")
    events = tuple(event for event in life.events if event["type"] in kept)
    return Life(life.name, life.note, events, life.final, life.prices)
