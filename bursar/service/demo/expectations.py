"""What must be true after the replay and at the end of the walk, taken from Stripe's final states and the rules alone.

The tables of the rules are written again here on purpose: a verdict must not rest on the code it judges.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from bursar.billing.values import Value, replace
from bursar.service.demo.lives import JsonObject, Life, all_events, customers_of_users, final_subscriptions

# KC-33
STATUS_AT_STRIPE_TO_OURS = {
    "trialing": "active",
    "active": "active",
    "past_due": "past_due",
    "unpaid": "unpaid",
    "incomplete": "unpaid",
    "canceled": "canceled",
    "incomplete_expired": "canceled",
    "paused": "canceled",
}
# KC-60, KC-70, KC-71
SUSPENSION_MAILS = {
    "trialing": "claw_suspended_trial",
    "canceled": "claw_suspended_subscription",
    "past_due": "claw_suspended_payment",
    "unpaid": "claw_suspended_payment",
}
TRIAL_WARNINGS = ("claw_trial_5d", "claw_trial_1d")
DESTRUCTION_MAILS = ("claw_destruction_warning", "claw_instance_destroyed")
HANDLED_TYPES = frozenset(
    {
        "customer.subscription.created",
        "customer.subscription.updated",
        "customer.subscription.deleted",
        "invoice.paid",
        "invoice.payment_failed",
    }
)


class RowView(Value):
    """The fields of a row that Stripe has a say in; `current_period_end` is null on a trial."""

    user_id: str
    plan: str
    status: str
    stripe_subscription_id: str | None = None
    current_period_end: datetime | None = None
    cancel_at_period_end: bool = False


def expected_rows(lives: Sequence[Life], trial_users: Iterable[str]) -> dict[str, RowView]:
    """By user: the row right after the replay. Who never subscribed is on the trial that came with the instance."""
    users = [*trial_users, *customers_of_users(lives)]
    rows = {user: RowView(user, "trial", "trialing") for user in users}
    for life in lives:
        rows |= _rows_of(life)
    return rows


def at_the_end(rows: dict[str, RowView]) -> dict[str, RowView]:
    """The same once every trial has run out (KC-60); suspension changes no other status."""
    return {user: replace(row, status="canceled") if row.plan == "trial" else row for user, row in rows.items()}


def expected_mails(row: RowView) -> tuple[str, ...]:
    """The mails of a user with an instance from the replay to the end of the walk, each once."""
    if row.status == "active":
        return ()
    warnings = TRIAL_WARNINGS if row.status == "trialing" else ()
    return (*warnings, SUSPENSION_MAILS[row.status], *DESTRUCTION_MAILS)


def expected_operations(row: RowView) -> tuple[str, ...]:
    """What the instance API must have been asked for (KC-77), in order."""
    return () if row.status == "active" else ("stop", "destroy")


def handled_event_ids(lives: Iterable[Life], types: frozenset[str] = HANDLED_TYPES) -> set[str]:
    """The events that the service must not lose: of a handled type, about a subscription of ours."""
    return {event["id"] for event in all_events(lives) if event["type"] in types and _is_kiloclaw(event)}


def _is_kiloclaw(event: JsonObject) -> bool:
    thing = event["data"]["object"]
    details = (thing.get("parent") or {}).get("subscription_details") or thing
    return bool(details["metadata"].get("type") == "kiloclaw")


def _rows_of(life: Life) -> dict[str, RowView]:
    """One row per user of this life: the live subscription's, else the newest one's (KC-30, KC-37)."""
    ours = [one for one in final_subscriptions(life).values() if one["metadata"].get("type") == "kiloclaw"]
    by_age = sorted(ours, key=lambda one: (one["ended_at"] is None, one["created"]))
    plans = {price: plan for plan, price in life.prices.items()}
    return {one["metadata"]["userId"]: _row(one, plans) for one in by_age}


def _row(subscription: JsonObject, plans: dict[str, str]) -> RowView:
    item = subscription["items"]["data"][0]
    period_end, ended_at = item["current_period_end"], subscription["ended_at"]
    return RowView(
        user_id=subscription["metadata"]["userId"],
        plan=plans[item["price"]["id"]],
        status=STATUS_AT_STRIPE_TO_OURS[subscription["status"]],
        stripe_subscription_id=subscription["id"],
        current_period_end=datetime.fromtimestamp(min(period_end, ended_at or period_end), UTC),
        cancel_at_period_end=subscription["cancel_at_period_end"] or subscription["cancel_at"] is not None,
    )
