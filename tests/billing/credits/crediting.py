"""Accounts with credits, for the tests of the rules."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from bursar.billing.account import Account
from bursar.billing.credits.ledger import Credits, Entry, EntryKind
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.rows import EarlyEvent, Instance, Subscription
from bursar.billing.operations import Operations
from bursar.billing.values import replace
from tests.billing.kiloclaw.making import a_paid_row, an_account

DOLLAR = 1_000_000
BEGUN = datetime(2026, 1, 31, 9, tzinfo=UTC)
DUE = datetime(2026, 2, 28, 9, tzinfo=UTC)


def a_credit_row(**changes: Any) -> Subscription:
    """A standard row paid from credits alone since 31 January, due on 28 February."""
    row = replace(
        a_paid_row(),
        payment_source="credits",
        stripe_subscription_id=None,
        stripe_customer_id=None,
        last_stripe_event_at=None,
        current_period_start=BEGUN,
        current_period_end=DUE,
        credit_renewal_at=DUE,
        credit_anchor_at=BEGUN,
        created_at=BEGUN,
    )
    return replace(row, **changes)


def a_commit_row(**changes: Any) -> Subscription:
    """The same on commit, six months that end at the renewal."""
    committed = {"plan": "commit", "commit_ends_at": DUE, "scheduled_plan": "standard", "scheduled_by": "auto"}
    return a_credit_row(**(committed | changes))


def with_credits(
    row: Subscription | None,
    *instances: Instance,
    dollars: int = 0,
    entries: Iterable[Entry] = (),
    early: tuple[EarlyEvent, ...] = (),
    under_way: tuple[str, ...] = (),
) -> Account:
    """An account that was given that much once; further entries leave the balance as it is."""
    account = an_account(row, *instances, early=early)
    given = (a_deposit(dollars),) if dollars else ()
    credit = Credits(acquired_microdollars=dollars * DOLLAR, entries=(*given, *entries))
    return account.having(credit).having(Operations(open_keys=under_way))


def a_deposit(dollars: int, payment_id: str = "pi_0") -> Entry:
    return Entry(
        kind=EntryKind.DEPOSIT,
        amount_microdollars=dollars * DOLLAR,
        description="given",
        business_key=f"deposit:{payment_id}",
        cause="evt_0",
        payment_id=payment_id,
    )


def balance(account: Account) -> int:
    """In dollars."""
    return account.part(Credits).balance_microdollars // DOLLAR


def followed(decision: Decision) -> Decision:
    """The decision with all that follows it in its transaction (`db/fold.py`)."""
    waiting = list(decision.follow_ups)
    while waiting:
        further = waiting.pop(0)(decision.account)
        decision = decision.then(further)
        waiting += further.follow_ups
    return decision
