"""Instances: nothing destroyed too early or while paid, running only for those entitled, for the paying in the end."""

from collections.abc import Iterator
from datetime import timedelta

from bursar.service.simulation.facts import Row, instant
from bursar.service.simulation.invariants.form import Invariant
from bursar.service.simulation.truth import PAID, Truth

GRACE = timedelta(days=7)


def destroyed_after_its_grace(truth: Truth) -> Iterator[str]:
    for instance in _newly_destroyed(truth):
        user_id = truth.user_of(instance)
        suspended_at = truth.suspended_before(user_id)
        if suspended_at is None or truth.now - suspended_at < GRACE:
            yield f"{instance['id']} of {user_id}, suspended {suspended_at}, was destroyed {truth.now}"


def nothing_destroyed_while_paid(truth: Truth) -> Iterator[str]:
    for instance in _newly_destroyed(truth):
        user_id = truth.user_of(instance)
        paid = [one["id"] for one in truth.subscriptions_of(user_id) if one["status"] in PAID]
        if paid:
            yield f"{instance['id']} of {user_id} was destroyed while {paid[0]} was paid"


def _newly_destroyed(truth: Truth) -> list[Row]:
    """By us: marked since the last look, not by its user, not with its user."""
    before = {one["id"] for one in truth.before.get("instances", ()) if one["destroying_since"]}
    return [
        one
        for one in truth.facts["instances"]
        if one["destroying_since"] and one["id"] not in before and truth.user_of(one) in truth.users_with_rows
    ]


def calls_are_wanted(truth: Truth) -> Iterator[str]:
    """An older generation is never brought about after a newer one."""
    newest: dict[str, int] = {}
    for instance_id, _, generation, _ in truth.simulation.outside.instances.history:
        if generation < newest.get(instance_id, 0):
            yield f"{instance_id}: generation {generation} after {newest[instance_id]}"
        newest[instance_id] = max(newest.get(instance_id, 0), generation)


def runs_only_if_entitled(truth: Truth) -> Iterator[str]:
    for instance in _told_right(truth):
        user_id, state = truth.user_of(instance), truth.state_of(instance)
        row = truth.row_of(user_id)
        covered = row is None or row["suspended_at"] is None or user_id in truth.earlybirds
        if state == "running" and not covered:
            yield f"{instance['id']} runs, {user_id} is suspended since {row and row['suspended_at']}"


def paid_runs(truth: Truth) -> Iterator[str]:
    for instance in _told_right(truth):
        user_id, state = truth.user_of(instance), truth.state_of(instance)
        row = truth.row_of(user_id)
        is_live = not instance["destroying_since"] and not instance["destroyed_at"]
        if row and row["status"] == "active" and is_live and state != "running":
            yield f"{instance['id']} is {state}, {user_id} is active"


def one_live_instance(truth: Truth) -> Iterator[str]:
    live: dict[str, str] = {}
    for one in truth.facts["instances"]:
        if one["destroying_since"] or one["destroyed_at"]:
            continue
        if one["account_key"] in live:
            yield f"{one['account_key']} has {live[one['account_key']]} and {one['id']}"
        live[one["account_key"]] = one["id"]


def destroyed_at_the_end(truth: Truth) -> Iterator[str]:
    """Whose deadline passed an hour ago keeps no instance; whoever was deleted keeps none either."""
    late = truth.now - timedelta(hours=1)
    for row in truth.facts["subscriptions"]:
        deadline = instant(row["destruction_deadline"])
        if deadline and deadline < late and row["user_id"] not in truth.earlybirds:
            yield f"{row['user_id']} was to be destroyed {deadline}"
    known = truth.simulation.provisioned
    states = truth.simulation.outside.instances
    for user_id in truth.simulation.deleted:
        for instance_id in known.get(user_id, ()):
            if states.states[instance_id] != "destroyed" and instance_id not in states.lied_about:
                yield f"{instance_id} outlived {user_id}"


def _told_right(truth: Truth) -> list[Row]:
    """Those of which the instance API has told the truth, and which the product has made."""
    outside = truth.simulation.outside.instances
    return [
        one for one in truth.facts["instances"] if one["id"] not in outside.lied_about and one["id"] in outside.states
    ]


ALL_ALONG = (
    Invariant("KC-73", "nothing is destroyed before its grace ended", destroyed_after_its_grace),
    Invariant("KC-74", "nothing is destroyed while it is paid", nothing_destroyed_while_paid),
    Invariant("KC-91", "only the newest generation is brought about", calls_are_wanted),
    Invariant("KC-2", "a user has one live instance", one_live_instance),
)
AT_REST = (
    Invariant("KC-77", "an instance of a suspended user does not run", runs_only_if_entitled),
    Invariant("KC-92", "a paid instance runs", paid_runs),
    Invariant("KC-73", "what was to be destroyed is", destroyed_at_the_end),
)
