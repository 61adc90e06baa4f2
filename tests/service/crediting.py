"""Users who pay hosting from credits, on a real database."""

from typing import Any

from bursar.billing.account import Account, user_key
from bursar.billing.credits.ledger import Credits, credits_of, with_entry
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.rows import Subscription
from bursar.db.items import Dedupe, Item
from tests.billing.credits.crediting import DOLLAR, a_deposit
from tests.service.steps.acting import Acting, having


def giving(dollars: int, user: str = "ada", payment_id: str = "") -> Item:
    """A message that deposits that much, once per payment."""
    payment = payment_id or f"pi_{user}"

    def decide(account: Account, _: object) -> Decision:
        entry = a_deposit(dollars, payment)
        known = credits_of(account).has(entry.business_key)
        return Decision(account if known else with_entry(account, entry))

    return Item(f"giving:{payment}", user_key(user), frozenset({Credits}), decide, Dedupe.STATE)


async def hosted(worker: Acting, row: Subscription, dollars: int = 0, user: str = "ada", **profile: Any) -> None:
    """A user with that row, its instance, and that much credit."""
    items = [having(row, user, **profile)]
    outcomes = await worker.decider.decide([*items, giving(dollars, user)] if dollars else items)
    assert [outcome.error for outcome in outcomes] == [None] * len(outcomes)


async def balance(worker: Acting, user: str = "ada") -> int:
    """In dollars, and the same as the sum of the entries."""
    ((counted, summed),) = await worker.fetch(
        """
        SELECT coalesce((
                SELECT acquired_microdollars - used_microdollars FROM credit_accounts WHERE user_id = $1), 0),
            coalesce((SELECT sum(amount_microdollars) FROM credit_transactions WHERE user_id = $1), 0)
        """,
        user,
    )
    assert counted == summed
    return int(counted) // DOLLAR


async def charges(worker: Acting, user: str = "ada") -> list[int]:
    """In dollars, oldest first."""
    rows = await worker.fetch(
        "SELECT amount_microdollars FROM credit_transactions WHERE user_id = $1 AND kind = 'charge' ORDER BY id", user
    )
    return [-int(amount) // DOLLAR for (amount,) in rows]
