"""What was lost and what was doubled. Every fault is a sentence."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

import httpx

from bursar.service.chaos.delivery import NO_ANSWER
from bursar.service.chaos.findings import Entry, Findings
from bursar.service.chaos.load import MICRODOLLARS_PER_CENT, Load, Payment
from bursar.service.demo.expectations import expected_rows
from bursar.service.demo.verdict import row_faults

SERVICE_UNAVAILABLE = 503
DEPOSIT, REFUND = "deposit", "refund"


def faults_in(load: Load, accepted: Collection[str], found: Findings, left: Mapping[str, int]) -> list[str]:
    """Everything that contradicts "nothing lost, nothing doubled", once all events were accepted (MS-1 to MS-6)."""
    return [
        *inbox_faults(accepted, found.inbox),
        *(f"{cause} changed {row} more than once" for cause, row in found.doubled),
        *(f"the change log of {row} has a hole" for row in found.torn),
        *row_faults(expected_rows(load.lives, ()), found.rows, "in the end"),
        *ledger_faults(load.payments, found.entries),
        *balance_faults(load.payments, found.entries, found.balances),
        *(f"{count} messages are {state}" for state, count in found.parked.items()),
        *(f"{count} steps are {state}" for state, count in found.open_steps.items()),
        *([f"{found.open_ticks} ticks are not through on every partition"] if found.open_ticks else []),
        *(f"{count} messages are left in {queue}" for queue, count in left.items()),
    ]


def delivery_faults(answers: Mapping[int, int], undelivered: int) -> list[str]:
    """Answers that Stripe must never get, and events that were never taken."""
    allowed = (NO_ANSWER, SERVICE_UNAVAILABLE)
    faults = [
        f"{count} webhooks were answered {status}"
        for status, count in sorted(answers.items())
        if status not in allowed and not httpx.codes.is_success(status)
    ]
    return faults + ([f"{undelivered} events were never accepted"] if undelivered else [])


def inbox_faults(accepted: Collection[str], inbox: Sequence[str]) -> list[str]:
    """Each accepted event is there exactly once, and nothing else is (MS-2, MS-3)."""
    times = Counter(inbox)
    faults = [f"{event_id} was accepted and is lost" for event_id in sorted(set(accepted) - times.keys())]
    faults += [f"{event_id} was handled and never accepted" for event_id in sorted(times.keys() - set(accepted))]
    return faults + [f"{event_id} is in the inbox {count} times" for event_id, count in times.items() if count > 1]


def ledger_faults(payments: Iterable[Payment], entries: Iterable[Entry]) -> list[str]:
    """One deposit of each payment and one refund of each refunded charge, of the right amounts (CR-3, CR-10, CR-11)."""
    found = defaultdict[tuple[str, str | None, str], list[int]](list)
    for entry in entries:
        found[entry.user_id, entry.payment_id, entry.kind].append(entry.amount)
    due = dict[tuple[str, str | None, str], list[int]]()
    for one in payments:
        due[one.user_id, one.payment_id, DEPOSIT] = [one.amount_cents * MICRODOLLARS_PER_CENT]
        due[one.user_id, one.payment_id, REFUND] = [-one.refunded_cents * MICRODOLLARS_PER_CENT]
    return [
        f"{user}: the {kind} of {payment} is {found.get(key, [])} microdollars, not {due.get(key, [])}"
        for key in sorted(due.keys() | found.keys(), key=str)
        if found.get(key, []) != due.get(key, [])
        for user, payment, kind in (key,)
    ]


def balance_faults(payments: Iterable[Payment], entries: Iterable[Entry], balances: Mapping[str, int]) -> list[str]:
    """Every balance is the sum of its entries, and what the payments left (CR-4)."""
    summed, due = Counter[str](), Counter[str]()
    for entry in entries:
        summed[entry.user_id] += entry.amount
    for one in payments:
        due[one.user_id] += one.left_microdollars
    return [
        f"{user}: the balance is {balances.get(user, 0)} microdollars, the entries' sum {summed[user]}, due {due[user]}"
        for user in sorted(balances.keys() | summed.keys() | due.keys())
        if not balances.get(user, 0) == summed[user] == due[user]
    ]
