"""Automatic top-ups: one try for each boundary, enough for what is short, and none after a decline."""

from collections import Counter
from collections.abc import Iterator

from bursar.service.simulation.facts import Row
from bursar.service.simulation.invariants.form import Invariant
from bursar.service.simulation.truth import MICRODOLLARS_PER_CENT, Truth


def covers_the_shortfall(truth: Truth) -> Iterator[str]:
    """When it is begun; what is taken back meanwhile it cannot know."""
    known = {one["key"] for one in truth.before.get("steps", ())}
    for step in truth.facts["steps"]:
        if step["kind"] != "top_up" or step["key"] in known:
            continue
        user_id = step["account_key"].removeprefix("user:")
        row = truth.row_of(user_id)
        waits = row and row["top_up_boundary"] and row["top_up_boundary"] == row["credit_renewal_at"]
        if not row or not waits or any(one["amount_microdollars"] < 0 for one in truth.new_entries(user_id)):
            continue
        short = truth.next_price(row) - truth.balance(user_id)
        cents = step["payload"]["asked"]["amount_cents"]
        if cents * MICRODOLLARS_PER_CENT < short:
            yield f"{user_id} is short of {short}, the top-up is of {cents} cents"


def tried_before_past_due(truth: Truth) -> Iterator[str]:
    """Whoever could be topped up all the while is not past due before that was tried."""
    for row in truth.pure_credit_rows():
        before, user_id = truth.row_before(row["user_id"]), row["user_id"]
        became = row["status"] == "past_due" and before is not None and before["status"] == "active"
        if became and _can_be_topped_up(truth, user_id) and row["top_up_boundary"] != row["credit_renewal_at"]:
            yield f"{user_id} is past due since {row['past_due_since']}, no top-up was tried"


def marked_for_its_boundary(truth: Truth) -> Iterator[str]:
    for row in truth.facts["subscriptions"]:
        marker = row["top_up_boundary"]
        if marker and (marker != row["credit_renewal_at"] or row["status"] == "canceled"):
            yield f"{row['user_id']} is marked for {marker}, {row['status']} until {row['credit_renewal_at']}"


def one_for_each_boundary(truth: Truth) -> Iterator[str]:
    """The change log tells at which boundaries money was short."""
    boundaries: dict[str, set[str]] = {}
    for change in truth.history["changes"]:
        marker = change["after"].get("top_up_boundary")
        if change["entity"] == "kiloclaw_subscriptions" and marker:
            boundaries.setdefault(change["entity_id"], set()).add(marker)
    tried = Counter(one["metadata"]["userId"] for one in truth.automatic_top_ups)
    for user_id, number in tried.items():
        marked = boundaries.get(user_id, set())
        if number > len(marked) and user_id not in truth.simulation.deleted:
            yield f"{user_id} was asked for {number} payments at {sorted(marked)}"


def off_once_declined(truth: Truth) -> Iterator[str]:
    """At rest it is on only for whoever switched it on since the last decline."""
    for user in truth.facts["users"]:
        declined, on = truth.declined.get(user["user_id"], 0), truth.switched_on.get(user["user_id"], 0)
        if user["auto_top_up"] and declined > on and not _gave_up(truth, user):
            yield f"{user['user_id']} was declined and is still topped up"


def _can_be_topped_up(truth: Truth, user_id: str) -> bool:
    looks = (truth.before.get("users", ()), truth.facts["users"])
    found = [one for users in looks for one in users if one["user_id"] == user_id]
    return all(one["auto_top_up"] and one["stripe_customer_id"] for one in found) and len(found) == len(looks)


def _gave_up(truth: Truth, user: Row) -> bool:
    steps = truth.facts["steps"]
    return any(
        one["kind"] == "top_up" and one["account_key"] == user["account_key"] and one["state"] == "failed"
        for one in steps
    )


ALL_ALONG = (
    Invariant("CR-38", "an automatic top-up covers what is short", covers_the_shortfall),
    Invariant("CR-38", "nobody is past due before the automatic top-up was tried", tried_before_past_due),
    Invariant("CR-40", "the marker of a top-up is its row's boundary", marked_for_its_boundary),
)
AT_REST = (
    Invariant("CR-38", "a boundary has one automatic top-up", one_for_each_boundary),
    Invariant("CR-39", "a decline switches the automatic top-up off", off_once_declined),
)
