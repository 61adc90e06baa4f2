"""Hosting paid from credits: each period charged once, past due for want of money only, hybrid rows by invoices."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

from bursar.billing.calendar import from_unix
from bursar.service.simulation.facts import Row, instant
from bursar.service.simulation.invariants.form import Invariant
from bursar.service.simulation.payments import invoices_in_credits
from bursar.service.simulation.truth import COMMIT_MICRODOLLARS, COMMIT_MONTHS, PLANS, Truth, is_pure_credit, price_of


def each_period_is_charged_once(truth: Truth) -> Iterator[str]:
    """The change log tells which periods a pure-credit row began; a renewed commitment is paid ahead of its."""
    for user_id in truth.simulation.users:
        if user_id in truth.simulation.deleted:
            continue
        charged = Counter(-one["amount_microdollars"] for one in truth.entries_of(user_id) if one["kind"] == "charge")
        due = Counter(price_of(plan) for plan in _periods_begun(truth, user_id))
        due[COMMIT_MICRODOLLARS] += _paid_ahead(truth.row_of(user_id))
        if +charged != +due:
            yield f"{user_id} was charged {dict(charged)} for periods of {dict(due)}"


def _periods_begun(truth: Truth, user_id: str) -> Iterator[str]:
    row: Row = {}
    for change in truth.history["changes"]:
        if (change["entity"], change["entity_id"]) != ("kiloclaw_subscriptions", user_id):
            continue
        known, row = row, {**row, **change["after"]}
        if (
            is_pure_credit(row)
            and row["status"] == "active"
            and known.get("current_period_start") != row["current_period_start"]
        ):
            yield row["plan"]


def _paid_ahead(row: Row | None) -> int:
    """How many commitments of six months are paid beyond the period that runs."""
    if row is None or not is_pure_credit(row) or row["plan"] != "commit" or row["status"] == "canceled":
        return 0
    ends_at, committed_until = instant(row["current_period_end"]), instant(row["commit_ends_at"])
    assert ends_at, "an active row has a period"
    assert committed_until, "a commit plan has its end"
    months = (committed_until.year - ends_at.year) * 12 + committed_until.month - ends_at.month
    return months // COMMIT_MONTHS


def hybrids_are_not_charged(truth: Truth) -> Iterator[str]:
    for row in truth.facts["subscriptions"]:
        before = truth.row_before(row["user_id"])
        if _is_hybrid(row) and before and _is_hybrid(before):
            charges = [one for one in truth.new_entries(row["user_id"]) if one["kind"] == "charge"]
            yield from (f"{row['user_id']} was charged {one['business_key']}" for one in charges)


def past_due_for_want_of_money(truth: Truth) -> Iterator[str]:
    """Money that comes is used at once, so whoever is past due has not enough."""
    for row in truth.pure_credit_rows():
        balance = truth.balance(row["user_id"])
        if row["status"] == "past_due" and balance >= truth.next_price(row):
            yield f"{row['user_id']} is past due with {balance}, the period from {row['credit_renewal_at']} is less"


def renewals_are_done(truth: Truth) -> Iterator[str]:
    """At rest no active row has a boundary that passed an hour ago."""
    for row in truth.pure_credit_rows():
        renewal_at = instant(row["credit_renewal_at"])
        if row["status"] == "active" and renewal_at and renewal_at < truth.now - timedelta(hours=1):
            yield f"{row['user_id']} was to be renewed {renewal_at}"


def hybrids_follow_their_invoices(truth: Truth) -> Iterator[str]:
    """Plan and period are those of the invoice that is paid farthest."""
    farthest: dict[str, Row] = {}
    for invoice, subscription in invoices_in_credits(truth.simulation.outside.stripe.world):
        line = invoice["lines"]["data"][0]
        known = farthest.get(subscription["id"])
        if known is None or line["period"]["end"] > known["period"]["end"]:
            farthest[subscription["id"]] = line
    for row in truth.facts["subscriptions"]:
        paid = farthest.get(row["stripe_subscription_id"])
        if paid and _is_hybrid(row) and row["status"] != "canceled":
            yield from (f"{row['user_id']}: {problem}" for problem in _unlike(row, paid))


def _unlike(row: Row, line: Row) -> Iterator[str]:
    expected = {
        "plan": PLANS[line["pricing"]["price_details"]["price"]],
        "current_period_start": from_unix(line["period"]["start"]),
        "current_period_end": from_unix(line["period"]["end"]),
        "credit_renewal_at": from_unix(line["period"]["end"]),
    }
    for name, value in expected.items():
        kept = row[name] if name == "plan" else instant(row[name])
        if kept != value:
            yield f"{name} is {kept}, the invoice says {value}"


def _is_hybrid(row: Row) -> bool:
    return row["payment_source"] == "credits" and row["stripe_subscription_id"] is not None


ALL_ALONG = (
    Invariant("CR-55", "a hybrid row is renewed by its invoices only", hybrids_are_not_charged),
    Invariant("CR-40", "whoever is past due has not the money", past_due_for_want_of_money),
)
AT_REST = (
    Invariant("CR-32", "each period is charged once", each_period_is_charged_once),
    Invariant("CR-30", "no renewal is left undone", renewals_are_done),
    Invariant("CR-55", "a hybrid row is as its last paid invoice says", hybrids_follow_their_invoices),
)
