"""A payment, its refunds and its lost dispute in every order, each twice: one ledger at the end (CR-11, MS-3)."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import orjson
import pytest

from bursar.billing.credits.ledger import MICRODOLLARS_PER_CENT
from bursar.billing.stripe.objects import StripeSubscription
from bursar.db.items import Item
from bursar.handlers.messages import (
    HANDLED_STRIPE_TYPES,
    ReceivedMessage,
    account_of_event,
    is_nobodys,
    item_of,
    resolve_accounts,
)
from tests.billing.credits.settling import METADATA, invoice_json
from tests.billing.kiloclaw.making import CATALOGUE, NOW, event_json, subscription_json
from tests.service.steps.acting import Acting, acting
from tests.service.steps.paying import PayingStripe, find_invoices

Event = dict[str, Any]
PAID = 2500
SUBSCRIBED = "customer.subscription.created"
ACTING_AFTER_EACH, ACTING_AT_THE_END, IN_BATCHES = "acting after each", "acting at the end", "in batches"
ALL = list(permutations(range(5)))


@dataclass(frozen=True)
class Case:
    """Cents that the rest of the refunds and the dispute take, after a refund of 500; which of it the invoice shows."""

    rest: int
    lost: int
    shows_charge: bool = False


APART = Case(rest=1000, lost=1000)  # together all of it
TOO_MUCH = Case(rest=2000, lost=PAID)  # each for itself all that was left


def event(user: str, name: str, event_type: str, stripe_object: Event, **previous: int) -> Event:
    made = event_json(event_type, stripe_object, NOW, f"evt_{user}_{name}")
    return made | {"data": made["data"] | {"previous_attributes": previous}} if previous else made


def reversals(user: str, case: Case, metadata: dict[str, str]) -> list[Event]:
    """Two refunds and a lost dispute, as Stripe tells of them."""
    of_payment = {"currency": "usd", "payment_intent": f"pi_{user}"}
    charge = {"id": f"ch_{user}", "object": "charge", "amount": PAID, "customer": f"cus_{user}", "metadata": metadata}
    partial, whole = charge | of_payment | {"amount_refunded": 500}, 500 + case.rest
    dispute = {"id": f"du_{user}", "object": "dispute", "amount": case.lost, "charge": f"ch_{user}"} | of_payment
    return [
        event(user, "partial", "charge.refunded", partial, amount_refunded=0),
        event(user, "rest", "charge.refunded", partial | {"amount_refunded": whole}, amount_refunded=500),
        event(user, "lost", "charge.dispute.closed", dispute | {"status": "lost"}),
    ]


def top_up_life(user: str, case: Case) -> list[Event]:
    metadata = {"type": "credit_topup", "userId": user}
    payment = {"id": f"pi_{user}", "amount_received": PAID, "currency": "usd", "metadata": metadata}
    dispute = {"id": f"du_{user}", "object": "dispute", "amount": case.lost, "currency": "usd"}
    return [
        event(user, "paid", "payment_intent.succeeded", payment),
        event(user, "opened", "charge.dispute.created", dispute | {"status": "needs_response"}),
        *reversals(user, case, metadata),
    ]


def settled_life(user: str, case: Case) -> list[Event]:
    """The first invoice of a subscription; neither it nor its charge names the other, unless the invoice shows it."""
    shown = {"charge": f"ch_{user}"} if case.shows_charge else {}
    names = {"customer": f"cus_{user}", "metadata": METADATA | {"userId": user}}
    invoice = invoice_json(id=f"in_{user}", subscription=f"sub_{user}", **names, **shown)
    created = subscription_json(id=f"sub_{user}", **names)
    return [
        event(user, "created", SUBSCRIBED, created),
        event(user, "paid", "invoice.paid", invoice),
        *reversals(user, case, {}),
    ]


def orders(life: Callable[[str, Case], list[Event]], case: Case) -> list[list[Event]]:
    """Every order, each of a user of its own and each twice, the second time under other event ids."""
    return [list(_doubled([life(f"u{number}", case)[place] for place in order])) for number, order in enumerate(ALL)]


def _doubled(events: Sequence[Event]) -> Iterator[Event]:
    yield from events
    yield from ({**one, "id": f"{one['id']}_again"} for one in events)


async def items(worker: Acting, events: Sequence[Event]) -> list[Item]:
    """As relay and lane make them."""
    handled = [one for one in events if one["type"] in HANDLED_STRIPE_TYPES and not is_nobodys(one["type"], one)]
    keys = [account_of_event(one) or "" for one in handled]
    async with worker.decider.pool.acquire() as connection:
        resolved = await resolve_accounts(connection, set(keys))
    messages = [
        ReceivedMessage(one["id"], f"stripe.{one['type']}", key, orjson.dumps(one))
        for one, key in zip(handled, keys, strict=True)
    ]
    return [item_of(message, resolved[message.account], CATALOGUE) for message in messages]


async def play(worker: Acting, lives: Sequence[Sequence[Event]], pace: str) -> None:
    """All orders side by side, place by place; what they ask for is done after each place, or at the very end. Or each
    life as a whole, in large batches.
    """
    places = [[one for life in lives for one in life]] if pace == IN_BATCHES else list(zip(*lives, strict=True))
    for place in places:
        outcomes = await worker.decider.decide(await items(worker, place))
        assert [one.error for one in outcomes if one.error] == []
        if pace == ACTING_AFTER_EACH:
            await act(worker)
    await act(worker)


async def act(worker: Acting) -> None:
    while await worker.do_reads() + await find_invoices(worker):
        pass


def a_stripe_of(lives: Sequence[Sequence[Event]]) -> PayingStripe:
    """It knows the subscriptions, and which invoice each payment paid."""
    users = [f"u{number}" for number in range(len(lives))]
    objects = [one["data"]["object"] for life in lives for one in life if one["type"] == SUBSCRIBED]
    listed = {one["customer"]: [StripeSubscription.model_validate(one)] for one in objects}
    return PayingStripe(listed=listed, paid={f"pi_{user}": [f"in_{user}"] for user in users} if objects else {})


async def ledgers(worker: Acting) -> list[tuple[int, frozenset[tuple[str, int, str, str]]]]:
    """Of each user the balance, and the entries as a set: kind, cents, key and payment, the user's name left out."""
    rows = await worker.fetch("SELECT user_id, acquired_microdollars - used_microdollars FROM credit_accounts")
    balances = dict(rows)
    entries: dict[str, set[tuple[str, int, str, str]]] = {user: set() for user in balances}
    for user, kind, amount, key, payment in await worker.fetch(
        "SELECT user_id, kind, amount_microdollars, business_key, payment_id FROM credit_transactions"
    ):
        entries[user].add((kind, amount // MICRODOLLARS_PER_CENT, key.replace(user, "u"), payment.replace(user, "u")))
    return [(balances[user], frozenset(entries[user])) for user in balances]


TOP_UP_LEDGER = {
    ("deposit", PAID, "deposit:pi_u", "pi_u"),
    ("refund", -500, "refund:ch_u:500", "pi_u"),
    ("refund", -1000, "refund:ch_u:1500", "pi_u"),
    ("dispute", -1000, "dispute:du_u", "pi_u"),
}


def settled_ledger(payment: str) -> set[tuple[str, int, str, str]]:
    taken = {f"settlement:{payment}": -PAID, "refund:ch_u:500": 500, "refund:ch_u:1500": 1000, "dispute:du_u": 1000}
    return {("settlement_deposit", -cents, key, payment) for key, cents in taken.items()} | {
        ("settlement_charge", cents, f"{key}:charge", payment) for key, cents in taken.items()
    }


@pytest.mark.parametrize("pace", [ACTING_AFTER_EACH, ACTING_AT_THE_END, IN_BATCHES])
@pytest.mark.parametrize(
    ("life", "case", "ledger"),
    [
        pytest.param(top_up_life, APART, TOP_UP_LEDGER, id="top-up"),
        pytest.param(settled_life, APART, settled_ledger("in_u"), id="settled"),
        pytest.param(
            settled_life, replace(APART, shows_charge=True), settled_ledger("ch_u"), id="settled by its charge"
        ),
    ],
)
async def test_ms_3_cr_11_every_order_doubled_ends_in_one_ledger(
    database_url: str, life: Any, case: Case, ledger: Any, pace: str
) -> None:
    lives = orders(life, case)
    async with acting(database_url) as opened:
        worker = replace(opened, stripe=a_stripe_of(lives))
        await play(worker, lives, pace)

        assert Counter(await ledgers(worker)) == {(0, frozenset(ledger)): len(ALL)}
        assert await worker.fetch("SELECT state, count(*) FROM steps WHERE state <> 'done' GROUP BY state") == []


@pytest.mark.parametrize("life", [top_up_life, settled_life])
async def test_cr_11_refunds_and_dispute_together_are_never_more_than_the_payment(database_url: str, life: Any) -> None:
    lives = orders(life, TOO_MUCH)
    async with acting(database_url) as opened:
        worker = replace(opened, stripe=a_stripe_of(lives))
        await play(worker, lives, ACTING_AFTER_EACH)

        found = await ledgers(worker)
        deposits = [[cents for kind, cents, *_ in entries if not kind.endswith("charge")] for _, entries in found]
        assert {(balance, sum(moved)) for (balance, _), moved in zip(found, deposits, strict=True)} == {(0, 0)}
        assert len(found) == len(ALL)
