"""The ledger: it adds up, and nothing is charged that is not there."""

from collections.abc import Iterator

from bursar.service.simulation.invariants.form import Invariant
from bursar.service.simulation.truth import Truth

PRICES_MICRODOLLARS = {25_000_000, 54_000_000}
MAY_OVERDRAW = ("refund", "dispute")
NEUTRAL = ("settlement_deposit", "settlement_charge")


def ledger_is_counters(truth: Truth) -> Iterator[str]:
    for account in truth.facts["credit_accounts"]:
        balance = account["acquired_microdollars"] - account["used_microdollars"]
        entries = sum(one["amount_microdollars"] for one in truth.entries_of(account["user_id"]))
        if balance != entries:
            yield f"{account['user_id']} has a balance of {balance}, its entries say {entries}"


def no_account_is_stopped(truth: Truth) -> Iterator[str]:
    for one in truth.facts["credit_mismatches"]:
        yield f"the audit found {one['user_id']} wrong"


def no_overdraft(truth: Truth) -> Iterator[str]:
    """A balance that is below zero already is no exception. A tombstone's is of several."""
    for account in truth.facts["credit_accounts"]:
        balance = 0
        for entry in truth.entries_of(account["user_id"]):
            balance += entry["amount_microdollars"]
            lowers = entry["amount_microdollars"] < 0 and entry["kind"] not in (*MAY_OVERDRAW, *NEUTRAL)
            if balance < 0 and lowers and account["user_id"] in truth.simulation.users:
                yield f"{account['user_id']} is left with {balance} by {entry['business_key']}"


def charged_at_its_price(truth: Truth) -> Iterator[str]:
    for one in truth.facts["entries"]:
        if one["kind"] == "charge" and -one["amount_microdollars"] not in PRICES_MICRODOLLARS:
            yield f"{one['business_key']} is {one['amount_microdollars']}"


ALL_ALONG = (
    Invariant("CR-1", "the counters of an account are the sum of its entries", ledger_is_counters),
    Invariant("CR-4", "the audit finds every account right", no_account_is_stopped),
    Invariant("CR-2", "no charge leaves a balance below zero", no_overdraft),
    Invariant("CR-21", "a charge is the price of a plan", charged_at_its_price),
)
