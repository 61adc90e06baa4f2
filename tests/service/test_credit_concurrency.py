"""Many at once on one user's money, on a real database: nothing is charged twice or overdrawn (CR-2, CR-23)."""

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import Any

from bursar.billing.account import Account, user_key
from bursar.billing.credits.enrolment import Enrolment
from bursar.billing.credits.ledger import Credits, Entry, EntryKind, credits_of, with_entry
from bursar.billing.credits.payments import ChargeEvent
from bursar.billing.credits.reversals import charge_refunded
from bursar.billing.decision import Decision
from bursar.billing.errors import Refused
from bursar.billing.kiloclaw.row_changes import with_row
from bursar.billing.kiloclaw.rows import Hosting, hosting_of
from bursar.billing.values import replace
from bursar.db.items import Dedupe, Item, Outcome
from bursar.db.ticks import Tick
from bursar.handlers.credits import enrolment_item
from bursar.sweeps.table import candidate
from tests.billing.credits.crediting import DUE, a_credit_row
from tests.billing.kiloclaw.making import CATALOGUE, DAY, event_json
from tests.service.crediting import balance, charges, giving, hosted
from tests.service.steps.acting import Acting, acting

ROUNDS, AT_ONCE = 200, 4
PAYMENTS, REQUESTS = 30, 400  # few enough that some come twice
CENTS = 2000  # of each payment


def renewing(worker: Acting, hour: int = 0) -> Item:
    return candidate(user_key("ada"), "credit_renewal", Tick(hour, "credit_renewal", worker.clock.now), CATALOGUE)


def enrolling(command: int) -> Item:
    return enrolment_item("ada", Enrolment("standard", "inst-ada", f"command:{command}"), CATALOGUE)


def of_account(name: str, decide: Callable[[Account], Decision]) -> Item:
    parts = frozenset[type[Any]]({Hosting, Credits})
    return Item(name, user_key("ada"), parts, lambda account, _: decide(account), Dedupe.STATE)


def refunding(payment: int, cents: int) -> Item:
    charge = {
        "id": f"ch_{payment}",
        "amount": CENTS,
        "amount_refunded": cents,
        "currency": "usd",
        "payment_intent": f"pi_{payment}",
    }
    event = ChargeEvent.model_validate(event_json("charge.refunded", charge, DUE, f"evt_{payment}_{cents}"))
    return of_account(event.id, lambda account: charge_refunded(account, event))


def buying(request: int) -> Item:
    """A charge of another product."""
    key = f"purchase:{request}"

    def decide(account: Account) -> Decision:
        if credits_of(account).has(key):
            return Decision(account)
        return Decision(
            with_entry(
                account,
                Entry(
                    kind=EntryKind.CHARGE,
                    amount_microdollars=-3_000_000,
                    description="a purchase",
                    business_key=key,
                    cause=key,
                ),
            )
        )

    return of_account(key, decide)


def ending() -> Item:
    def decide(account: Account) -> Decision:
        row = hosting_of(account).subscription
        if row is None or row.status == "canceled":
            return Decision(account)
        return Decision(with_row(account, replace(row, status="canceled", past_due_since=None)))

    return of_account("ending", decide)


async def at_once(worker: Acting, items: list[Item]) -> list[Outcome]:
    outcomes = await asyncio.gather(*(worker.decider.decide([item]) for item in items))
    return [outcome for (outcome,) in outcomes]


async def test_cr_32_fifty_renewals_at_once_with_money_for_one_charge_once(database_url: str) -> None:
    async with acting(database_url) as worker:
        await hosted(worker, a_credit_row(), 25)
        worker.clock.now = DUE + 65 * DAY
        outcomes = await at_once(worker, [renewing(worker, number) for number in range(50)])

        assert [outcome.error for outcome in outcomes] == [None] * 50
        assert (await charges(worker), await balance(worker)) == ([25], 0)


async def test_cr_23_fifty_enrolments_and_renewals_at_once_with_money_for_one_charge_once(database_url: str) -> None:
    async with acting(database_url) as worker:
        await hosted(worker, a_credit_row(status="canceled"), 25)
        worker.clock.now = DUE
        items = [enrolling(number) if number % 2 else renewing(worker, number) for number in range(50)]
        outcomes = await at_once(worker, items)

        assert sum(outcome.error is None for outcome in outcomes[1::2]) == 1
        assert (await charges(worker), await balance(worker)) == ([25], 0)


async def test_cr_2_random_interleavings_keep_the_balance_the_sum_of_the_entries(database_url: str) -> None:
    async with acting(database_url) as worker:
        await hosted(worker, a_credit_row(), 25)
        worker.clock.now = DUE
        chance = random.Random(20)
        for _ in range(ROUNDS):
            worker.clock.now += chance.randrange(3) * DAY
            outcomes = await at_once(worker, list(some(worker, chance)))
            assert all(one.error is None or isinstance(one.error, Refused) for one in outcomes), outcomes
            await balance(worker)

        assert len(await charges(worker)) > 20, "little happened"
        assert await worker.fetch(OVERDRAFTS) == []
        assert await worker.fetch(TWICE) == []


def some(worker: Acting, chance: random.Random) -> Iterator[Item]:
    """What comes in at the same time."""
    payment = chance.randrange(PAYMENTS)
    kinds: list[Callable[[], Item]] = [
        lambda: giving(CENTS // 100, payment_id=f"pi_{payment}"),
        lambda: giving(CENTS // 100, payment_id=f"pi_{payment}"),
        lambda: refunding(payment, chance.choice((500, 2000))),
        lambda: enrolling(chance.randrange(REQUESTS)),
        lambda: buying(chance.randrange(REQUESTS)),
        lambda: renewing(worker),
        ending,
    ]
    for _ in range(AT_ONCE):
        yield chance.choice(kinds)()


OVERDRAFTS = """
    SELECT id FROM (
        SELECT id, kind, sum(amount_microdollars) OVER (PARTITION BY user_id ORDER BY id) AS left
        FROM credit_transactions) AS entries
    WHERE kind = 'charge' AND entries.left < 0
    """
# A boundary that was charged for more than one plan, or a payment withdrawn beyond its amount.
TWICE = """
    SELECT regexp_replace(business_key, ':(standard|commit):', ':') FROM credit_transactions
    WHERE kind = 'charge' GROUP BY 1 HAVING count(*) > 1
    UNION ALL
    SELECT payment_id FROM credit_transactions WHERE payment_id IS NOT NULL
    GROUP BY payment_id HAVING sum(amount_microdollars) < 0
    """
