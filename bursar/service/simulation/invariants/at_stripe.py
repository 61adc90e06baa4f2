"""Rows and Stripe: one customer and one live subscription per user, equal at rest, no period paid twice."""

from collections import Counter
from collections.abc import Iterator

from bursar.billing.calendar import from_unix
from bursar.service.demo.lives import JsonObject
from bursar.service.simulation.facts import Row, instant
from bursar.service.simulation.invariants.form import Invariant
from bursar.service.simulation.truth import PLANS, UNENDED, Truth

STATUSES = {
    "trialing": "active", "active": "active", "past_due": "past_due", "unpaid": "unpaid", "incomplete": "unpaid",
    "canceled": "canceled", "incomplete_expired": "canceled", "paused": "canceled",
}  # fmt: skip


def one_customer(truth: Truth) -> Iterator[str]:
    of_users = Counter(one["metadata"].get("userId") for one in truth.at_stripe("customer"))
    for user_id, number in of_users.items():
        if number > 1 and user_id:
            yield f"{user_id} has {number} customers"


def one_live_subscription(truth: Truth) -> Iterator[str]:
    for user_id in truth.simulation.users:
        live = [one["id"] for one in truth.subscriptions_of(user_id) if one["status"] in UNENDED]
        if len(live) > 1:
            yield f"{user_id} pays for {live}"


def credit_or_stripe(truth: Truth) -> Iterator[str]:
    for row in truth.facts["subscriptions"]:
        is_pure_credit = row["payment_source"] == "credits" and row["stripe_subscription_id"] is None
        live = [one["id"] for one in truth.subscriptions_of(row["user_id"]) if one["status"] in UNENDED]
        if is_pure_credit and row["status"] in ("active", "past_due") and live:
            yield f"{row['user_id']} pays from credits and for {live[0]}"


def rows_equal_stripe(truth: Truth) -> Iterator[str]:
    for row in truth.facts["subscriptions"]:
        if row["stripe_subscription_id"]:
            there = truth.one_at_stripe("subscription", row["stripe_subscription_id"])
            yield from (f"{row['user_id']}: {problem}" for problem in _differences(row, there))


def _differences(row: Row, there: JsonObject) -> Iterator[str]:
    item = there["items"]["data"][0]
    expected = {
        "status": STATUSES[there["status"]],
        "plan": PLANS[item["price"]["id"]],
        "cancel_at_period_end": bool(there["cancel_at_period_end"] or there["cancel_at"]),
    }
    is_hybrid = row["payment_source"] == "credits"  # then plan and period are its invoices'
    if expected["status"] == "canceled":
        del expected["cancel_at_period_end"]
    if is_hybrid:
        del expected["plan"]
    for name, value in expected.items():
        if row[name] != value:
            yield f"{name} is {row[name]}, Stripe has {value}"
    ends_at = from_unix(item["current_period_end"])
    if there["status"] in UNENDED and not is_hybrid and instant(row["current_period_end"]) != ends_at:
        yield f"the period ends {row['current_period_end']}, at Stripe {ends_at}"


def no_live_subscription_without_row(truth: Truth) -> Iterator[str]:
    bound = {row["stripe_subscription_id"] for row in truth.facts["subscriptions"]}
    for user_id in truth.simulation.users:
        for one in truth.subscriptions_of(user_id):
            if one["status"] in UNENDED and one["id"] not in bound:
                yield f"{one['id']} of {user_id} is {one['status']} at Stripe and bound to no row"


def commit_has_its_schedule(truth: Truth) -> Iterator[str]:
    for row in truth.facts["subscriptions"]:
        if row["plan"] != "commit" or row["status"] != "active" or not row["stripe_subscription_id"]:
            continue
        there = truth.one_at_stripe("subscription", row["stripe_subscription_id"])
        if row["cancel_at_period_end"] or there["status"] != "active":
            continue
        if not there["schedule"] or there["schedule"] != row["stripe_schedule_id"]:
            yield f"{row['user_id']}: schedule {there['schedule']} at Stripe, {row['stripe_schedule_id']} in the row"


def one_schedule(truth: Truth) -> Iterator[str]:
    of_subscriptions = Counter(
        one["subscription"]
        for one in truth.at_stripe("subscription_schedule")
        if one["status"] in ("active", "not_started") and one["subscription"]
    )
    for subscription_id, number in of_subscriptions.items():
        if number > 1:
            yield f"{subscription_id} has {number} schedules"


def no_period_paid_twice(truth: Truth) -> Iterator[str]:
    """Months paid in advance by a renewed commitment are not billed again at the old boundary."""
    for user_id in truth.simulation.users:
        renewals = truth.renewal_invoices(user_id)
        for one in truth.subscriptions_of(user_id):
            billed = [
                invoice
                for invoice in truth.at_stripe("invoice")
                if truth.subscription_of_invoice(invoice) == one["id"] and invoice["amount_paid"] > 0
            ]
            starts = Counter(invoice["lines"]["data"][0]["period"]["start"] for invoice in billed)
            twice = [start for start, number in starts.items() if number > 1]
            if twice:
                yield f"{user_id} paid the period from {from_unix(twice[0])} twice"
        if len(renewals) > truth.renewals_asked(user_id):
            yield f"{user_id} paid {len(renewals)} renewals, asked for {truth.renewals_asked(user_id)}"


ALL_ALONG = (
    Invariant("KC-20", "a user has one customer at Stripe", one_customer),
    Invariant("KC-23", "a user has one live subscription at Stripe", one_live_subscription),
    Invariant("KC-41", "a subscription has one schedule", one_schedule),
    Invariant("KC-47", "no period is paid twice", no_period_paid_twice),
)
AT_REST = (
    Invariant("CR-25", "nobody pays from credits and at Stripe", credit_or_stripe),
    Invariant("MS-10", "rows are equal to Stripe", rows_equal_stripe),
    Invariant("KC-30", "every live subscription at Stripe has its row", no_live_subscription_without_row),
    Invariant("KC-40", "an active commit plan has its schedule", commit_has_its_schedule),
)
