"""Payments at Stripe and the ledger: each deposited once, settled as a neutral pair, taken back as it was there."""

from collections import Counter
from collections.abc import Iterator

from bursar.service.simulation.facts import Row
from bursar.service.simulation.invariants.form import Invariant
from bursar.service.simulation.payments import Payment
from bursar.service.simulation.truth import MICRODOLLARS_PER_CENT, Truth

DEPOSITS = ("deposit", "settlement_deposit")
PAIRS = ("settlement_deposit", "settlement_charge")
TAKEN_BACK = ("refund", "dispute", "settlement_deposit")


def one_deposit_for_each_payment(truth: Truth) -> Iterator[str]:
    for one in truth.payments:
        number = len(_deposits(truth, one))
        if number > 1:
            yield f"{sorted(one.names)} was deposited {number} times"


def deposits_are_paid(truth: Truth) -> Iterator[str]:
    """To whom it belongs, in the way that it was paid for."""
    paid = {name: one for one in truth.payments for name in one.names}
    for entry in truth.facts["entries"]:
        if entry["kind"] not in DEPOSITS or entry["amount_microdollars"] < 0:
            continue
        payment = paid.get(entry["payment_id"])
        if payment is None or entry["amount_microdollars"] != payment.paid_cents * MICRODOLLARS_PER_CENT:
            yield f"{entry['payment_id']} was deposited with {entry['amount_microdollars']}"
        elif payment.is_hosting != (entry["kind"] == "settlement_deposit"):
            yield f"{entry['payment_id']} was deposited as a {entry['kind']}"
        elif entry["user_id"] != payment.user_id and payment.user_id not in truth.simulation.deleted:
            yield f"{entry['payment_id']} of {payment.user_id} was deposited to {entry['user_id']}"


def payments_are_deposited(truth: Truth) -> Iterator[str]:
    for one in truth.payments:
        if not one.is_hosting and one.user_id not in truth.simulation.deleted and not _deposits(truth, one):
            yield f"{sorted(one.names)} of {one.user_id} was never deposited"


def invoices_are_settled(truth: Truth) -> Iterator[str]:
    for one in truth.payments:
        if one.is_hosting and one.user_id not in truth.simulation.deleted and not _deposits(truth, one):
            yield f"{sorted(one.names)} of {one.user_id} was never settled"


def settlements_are_neutral(truth: Truth) -> Iterator[str]:
    sums: Counter[str] = Counter()
    for one in truth.facts["entries"]:
        if one["kind"] in PAIRS:
            sums[one["payment_id"]] += one["amount_microdollars"]
    for payment_id, left in sums.items():
        if left:
            yield f"{payment_id} leaves {left}"


def withdrawals_within_payment(truth: Truth) -> Iterator[str]:
    for one in truth.payments:
        withdrawn = _withdrawn(truth, one)
        if withdrawn > one.paid_cents * MICRODOLLARS_PER_CENT:
            yield f"{sorted(one.names)}: {withdrawn} withdrawn of {one.paid_cents} cents"


def withdrawals_are_stripes(truth: Truth) -> Iterator[str]:
    """What was taken back of each payment is what Stripe gave or lost."""
    for one in truth.payments:
        if one.user_id in truth.simulation.deleted:
            continue
        withdrawn = _withdrawn(truth, one)
        if withdrawn != one.gone_cents * MICRODOLLARS_PER_CENT:
            yield f"{sorted(one.names)}: {withdrawn} withdrawn, {one.gone_cents} cents gone"


def _deposits(truth: Truth, payment: Payment) -> list[Row]:
    entries = truth.entries_of_payment(payment.names)
    return [one for one in entries if one["kind"] in DEPOSITS and one["amount_microdollars"] > 0]


def _withdrawn(truth: Truth, payment: Payment) -> int:
    entries = truth.entries_of_payment(payment.names)
    taken = (-one["amount_microdollars"] for one in entries if one["kind"] in TAKEN_BACK)
    return sum(amount for amount in taken if amount > 0)


ALL_ALONG = (
    Invariant("CR-10", "a payment is deposited once", one_deposit_for_each_payment),
    Invariant("CR-3", "a deposit is what was paid", deposits_are_paid),
    Invariant("CR-50", "a settled invoice leaves nothing in the account", settlements_are_neutral),
    Invariant("CR-11", "what is taken back is never more than the payment", withdrawals_within_payment),
)
AT_REST = (
    Invariant("CR-10", "every paid top-up is deposited", payments_are_deposited),
    Invariant("CR-50", "every paid invoice of a credit-funded subscription is settled", invoices_are_settled),
    Invariant("CR-11", "every refund and lost dispute is taken back", withdrawals_are_stripes),
)
