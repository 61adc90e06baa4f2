"""Credits: conserved, never overdrawn, each payment and each boundary once."""

from collections import Counter
from collections.abc import Iterator

from bursar.service.simulation.at_stripe import TOP_UP
from bursar.service.simulation.facts import Row
from bursar.service.simulation.invariants.form import Invariant
from bursar.service.simulation.truth import Truth

MICRODOLLARS_PER_CENT = 10_000
PRICES_MICRODOLLARS = {25_000_000, 54_000_000}
TAKEN_BACK = ("refund", "dispute")


def ledger_is_counters(truth: Truth) -> Iterator[str]:
    for account in truth.facts["credit_accounts"]:
        balance = account["acquired_microdollars"] - account["used_microdollars"]
        entries = sum(one["amount_microdollars"] for one in truth.entries_of(account["user_id"]))
        if balance != entries:
            yield f"{account['user_id']} has a balance of {balance}, its entries say {entries}"


def no_overdraft(truth: Truth) -> Iterator[str]:
    for account in truth.facts["credit_accounts"]:
        balance, entries = 0, truth.entries_of(account["user_id"])
        for entry in entries:
            balance += entry["amount_microdollars"]
            if balance < 0 and entry["kind"] not in TAKEN_BACK and entry["amount_microdollars"] < 0:
                yield f"{account['user_id']} is left with {balance} by {entry['business_key']}"


def one_charge_for_each_period(truth: Truth) -> Iterator[str]:
    """The change log tells how many periods a pure-credit row began; a renewed commitment is charged ahead."""
    begun: Counter[str] = Counter()
    for change in truth.history["changes"]:
        if change["entity"] == "kiloclaw_subscriptions" and change["after"].get("credit_renewal_at"):
            begun[change["entity_id"]] += 1
    for user_id in truth.simulation.users:
        charges = [one for one in truth.entries_of(user_id) if one["kind"] == "charge"]
        ahead = len(charges) - begun[user_id]
        if user_id not in truth.simulation.deleted and not 0 <= ahead <= truth.renewals_asked(user_id):
            yield f"{user_id} has {len(charges)} charges for {begun[user_id]} periods"


def charged_at_its_price(truth: Truth) -> Iterator[str]:
    for one in truth.facts["entries"]:
        if one["kind"] == "charge" and -one["amount_microdollars"] not in PRICES_MICRODOLLARS:
            yield f"{one['business_key']} is {one['amount_microdollars']}"


def one_deposit_for_each_payment(truth: Truth) -> Iterator[str]:
    deposits = Counter(one["payment_id"] for one in _deposits(truth))
    for payment_id, number in deposits.items():
        if number > 1:
            yield f"{payment_id} was deposited {number} times"


def deposits_are_paid(truth: Truth) -> Iterator[str]:
    paid = {one["id"]: one["amount_received"] for one in _paid_top_ups(truth)}
    for one in _deposits(truth):
        if one["amount_microdollars"] != paid.get(one["payment_id"], 0) * MICRODOLLARS_PER_CENT:
            yield f"{one['payment_id']} was deposited with {one['amount_microdollars']}"


def payments_are_deposited(truth: Truth) -> Iterator[str]:
    deposited = {one["payment_id"] for one in _deposits(truth)}
    for one in _paid_top_ups(truth):
        if one["id"] not in deposited and one["metadata"]["userId"] not in truth.simulation.deleted:
            yield f"{one['id']} of {one['metadata']['userId']} was never deposited"


def withdrawals_within_payment(truth: Truth) -> Iterator[str]:
    withdrawn: Counter[str] = Counter()
    for one in truth.facts["entries"]:
        if one["kind"] in TAKEN_BACK:
            withdrawn[one["payment_id"]] -= one["amount_microdollars"]
    for one in _deposits(truth):
        if withdrawn[one["payment_id"]] > one["amount_microdollars"]:
            yield f"{one['payment_id']}: {withdrawn[one['payment_id']]} withdrawn of {one['amount_microdollars']}"


def withdrawals_are_stripes(truth: Truth) -> Iterator[str]:
    """At rest what was taken back of each top-up is what Stripe gave or lost."""
    withdrawn: Counter[str] = Counter()
    for one in truth.facts["entries"]:
        if one["kind"] in TAKEN_BACK:
            withdrawn[one["payment_id"]] -= one["amount_microdollars"]
    lost = {one["charge"] for one in truth.at_stripe("dispute") if one["status"] == "lost"}
    for one in truth.at_stripe("charge"):
        deposited = {deposit["payment_id"] for deposit in _deposits(truth)}
        if one["payment_intent"] not in deposited or truth.was_deleted_by_payment(one):
            continue
        gone = one["amount"] if one["id"] in lost else one["amount_refunded"]
        if withdrawn[one["payment_intent"]] != gone * MICRODOLLARS_PER_CENT:
            yield f"{one['payment_intent']}: {withdrawn[one['payment_intent']]} withdrawn, {gone} cents gone"


def _deposits(truth: Truth) -> list[Row]:
    return [one for one in truth.facts["entries"] if one["kind"] == "deposit"]


def _paid_top_ups(truth: Truth) -> list[Row]:
    return [
        one
        for one in truth.at_stripe("payment_intent")
        if one["metadata"].get("type") == TOP_UP and one["status"] == "succeeded"
    ]


ALL_ALONG = (
    Invariant("CR-1", "the counters of an account are the sum of its entries", ledger_is_counters),
    Invariant("CR-2", "no charge leaves a balance below zero", no_overdraft),
    Invariant("CR-21", "a charge is the price of a plan", charged_at_its_price),
    Invariant("CR-10", "a payment is deposited once", one_deposit_for_each_payment),
    Invariant("CR-3", "a deposit is what was paid", deposits_are_paid),
    Invariant("CR-11", "what is taken back is never more than the payment", withdrawals_within_payment),
)
AT_REST = (
    Invariant("CR-32", "each period is charged once", one_charge_for_each_period),
    Invariant("CR-10", "every paid top-up is deposited", payments_are_deposited),
    Invariant("CR-11", "every refund and lost dispute is taken back", withdrawals_are_stripes),
)
