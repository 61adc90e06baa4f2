"""Rows: suspended for a reason, no access while suspended, a trial once, nothing left of a deleted user."""

from collections.abc import Iterator
from datetime import timedelta

from bursar.service.simulation.facts import Row, instant
from bursar.service.simulation.invariants.form import Invariant
from bursar.service.simulation.simulation import BEGINS_AT
from bursar.service.simulation.truth import Truth

PAST_DUE_GRACE = timedelta(days=14)
DESTRUCTION_GRACE = timedelta(days=7)


def suspended_for_a_reason(truth: Truth) -> Iterator[str]:
    for row in truth.facts["subscriptions"]:
        if row["suspended_at"] and (truth.row_before(row["user_id"]) or {}).get("suspended_at") != row["suspended_at"]:
            problem = _without_reason(truth, row)
            if problem:
                yield f"{row['user_id']}: {problem}"


def _without_reason(truth: Truth, row: Row) -> str | None:
    at = instant(row["suspended_at"])
    assert at, "the caller looked"
    if row["plan"] == "trial":
        ends_at = instant(row["trial_ends_at"])
        return None if ends_at and ends_at < at else f"suspended {at}, the trial ends {ends_at}"
    if row["status"] == "canceled":
        ends_at = instant(row["current_period_end"])
        return None if ends_at and ends_at < at else f"suspended {at}, the period ends {ends_at}"
    since = truth.first_past_due(row)
    return None if since and at - since > PAST_DUE_GRACE else f"suspended {at}, past due since {since}"


def suspended_without_access(truth: Truth) -> Iterator[str]:
    for row in truth.facts["subscriptions"]:
        if row["suspended_at"] and row["status"] in ("active", "trialing"):
            yield f"{row['user_id']} is suspended and {row['status']}"


def deadline_a_grace_after_suspension(truth: Truth) -> Iterator[str]:
    for row in truth.facts["subscriptions"]:
        deadline, suspended_at = instant(row["destruction_deadline"]), instant(row["suspended_at"])
        if deadline and (suspended_at is None or deadline - suspended_at != DESTRUCTION_GRACE):
            yield f"{row['user_id']}: suspended {suspended_at}, destroyed from {deadline}"


def a_trial_once(truth: Truth) -> Iterator[str]:
    for user_id, starts in truth.trials.items():
        if len(starts) > 1:
            yield f"{user_id} began trials at {sorted(starts)}"


def a_trial_for_the_new(truth: Truth) -> Iterator[str]:
    """Not for who had a row, an instance or an earlybird purchase before."""
    for row in truth.facts["subscriptions"]:
        user_id = row["user_id"]
        before = truth.row_before(user_id)
        if row["plan"] != "trial" or (before and before["trial_started_at"] == row["trial_started_at"]):
            continue
        had = before is not None or any(truth.user_of(one) == user_id for one in truth.before.get("instances", ()))
        if had or any(one["user_id"] == user_id for one in truth.before.get("earlybirds", ())):
            yield f"{user_id} began a trial at {row['trial_started_at']}, and had something before"


def nothing_of_the_deleted(truth: Truth) -> Iterator[str]:
    for user_id in truth.simulation.deleted:
        for table in ("subscriptions", "mails", "users", "earlybirds", "credit_accounts", "entries"):
            if any(one["user_id"] == user_id for one in truth.facts[table]):
                yield f"{user_id} is still in {table}"


def overdue_is_suspended(truth: Truth) -> Iterator[str]:
    """At rest the sweeps have done what was due an hour ago."""
    late = truth.now - timedelta(hours=1)
    for row in truth.facts["subscriptions"]:
        if row["suspended_at"] or row["user_id"] in truth.earlybirds:
            continue
        reached = {
            "trialing": instant(row["trial_ends_at"]),
            "canceled": instant(row["current_period_end"]) if row["plan"] != "trial" else None,
        }.get(row["status"])
        since = instant(row["past_due_since"])
        due = reached or (since + PAST_DUE_GRACE if since else None)
        if due and due < late:
            yield f"{row['user_id']} is {row['status']} and not suspended since {due}"


def decided_by_the_clock(truth: Truth) -> Iterator[str]:
    for change in truth.history["changes"]:
        decided_at = instant(change["decided_at"])
        if decided_at is None or not BEGINS_AT <= decided_at <= truth.now:
            yield f"{change['entity_id']} was changed {decided_at}, it is {truth.now}"


def changes_are_complete(truth: Truth) -> Iterator[str]:
    """The log, replayed from the beginning, ends in the rows as they are."""
    told: dict[tuple[str, str], Row] = {}
    for change in truth.history["changes"]:
        row = told.setdefault((change["entity"], change["entity_id"]), {})
        for name, was in (change["before"] or {}).items():
            if row.get(name) != was:
                yield f"{change['entity']} {change['entity_id']}: {name} was {row.get(name)}, the log says {was}"
        row.update(change["after"])
    for table, key in (("subscriptions", "user_id"), ("instances", "id")):
        for row in truth.facts[table]:
            replayed = told.get((f"kiloclaw_{table}", row[key]), {})
            for name in ("status", "plan", "suspended_at", "desired_state", "generation", "destroyed_at"):
                if name in row and not _same(row[name], replayed.get(name)):
                    yield f"{row[key]}: {name} is {row[name]}, the log ends with {replayed.get(name)}"


def _same(kept: object, logged: object) -> bool:
    if isinstance(kept, str) and isinstance(logged, str) and kept != logged and "T" in kept:
        return instant(kept) == instant(logged)
    return kept == logged


ALL_ALONG = (
    Invariant("KC-71", "a suspension is preceded by its reason", suspended_for_a_reason),
    Invariant("KC-100", "who is suspended has no access", suspended_without_access),
    Invariant("KC-60", "destruction is due seven days after the suspension", deadline_a_grace_after_suspension),
    Invariant("KC-11", "a user has one trial", a_trial_once),
    Invariant("KC-11", "a trial is for who had nothing before", a_trial_for_the_new),
    Invariant("KC-121", "nothing is left of a deleted user", nothing_of_the_deleted),
)
AT_REST = (
    Invariant("KC-80", "every decision is made by business time", decided_by_the_clock),
    Invariant("KC-80", "whatever was due is done", overdue_is_suspended),
    Invariant("KC-4", "the change log is complete", changes_are_complete),
)
