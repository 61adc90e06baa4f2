"""The recorded lives as if their subscriptions were credit-funded, in any order and with duplicates (CR-53, CR-56)."""

from collections.abc import Iterable
from copy import deepcopy
from itertools import permutations
from random import Random
from typing import Any

import pytest

from bursar.billing.account import Account
from bursar.billing.credits.ledger import Credits
from bursar.billing.kiloclaw.following import STATUS_OF
from bursar.billing.kiloclaw.rows import hosting_of
from bursar.billing.values import replace
from bursar.service.demo.lives import Life
from tests.billing.kiloclaw.test_lives import LIVES, Outside, our_events, user_account
from tests.billing.kiloclaw.test_orders import beginning

MAX_PERMUTED = 5


def in_credits(life: Life) -> Life:
    """The life with funding=credits wherever the subscription's metadata stands."""
    events, final = deepcopy(life.events), deepcopy(life.final)
    for one in (*(event["data"]["object"] for event in events), *final):
        details = ((one.get("parent") or {}).get("subscription_details") or {}) if "parent" in one else {}
        for metadata in (one.get("metadata"), details.get("metadata")):
            if metadata and metadata.get("type") == "kiloclaw":
                metadata["funding"] = "credits"
    return replace(life, events=events, final=final)


CREDIT_LIVES = [in_credits(life) for life in LIVES]


def with_ledger(life: Life) -> Account:
    return user_account(life).having(Credits())


def invoices_paid(events: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Cents by invoice, of our subscriptions."""
    paid = (event["data"]["object"] for event in events if event["type"] == "invoice.paid")
    named = ((one, (one["parent"] or {}).get("subscription_details")) for one in paid)
    return {
        one["id"]: one["amount_paid"]
        for one, details in named
        if details and details["metadata"].get("type") == "kiloclaw"
    }


def facts(account: Account) -> tuple[Any, ...]:
    row, credit = hosting_of(account).subscription, account.part(Credits)
    entries = tuple(sorted((one.business_key, one.amount_microdollars) for one in credit.entries))
    if row is None:
        return (None, entries)
    return (
        *(row.stripe_subscription_id, row.status, row.plan, row.payment_source, row.cancel_at_period_end),
        *(row.current_period_start, row.current_period_end, row.credit_renewal_at, row.commit_ends_at),
        *(row.settled_at, row.suspended_at, row.past_due_since is None, entries),
    )


@pytest.mark.parametrize("life", CREDIT_LIVES, ids=lambda life: life.name)
def test_cr_50_cr_52_cr_55_each_paid_invoice_is_one_neutral_pair_and_the_row_is_its_lines(life: Life) -> None:
    outside = Outside(life)
    account = outside.play(with_ledger(life), our_events(life))

    row, credit = hosting_of(account).subscription, account.part(Credits)
    paid = invoices_paid(life.events)
    assert credit.balance_microdollars == 0
    deposited = {one.payment_id: one.amount_microdollars for one in credit.entries if one.amount_microdollars > 0}
    bound = {key: cents * 10_000 for key, cents in paid.items() if cents}
    assert deposited == bound
    ours = [one for one in outside.finals if one.is_kiloclaw]
    if row is None:
        assert not ours
        return
    last = next((one for one in ours if STATUS_OF[one.status] != "canceled"), ours[-1])
    assert (row.stripe_subscription_id, row.status) == (last.id, STATUS_OF[last.status])
    assert (row.payment_source, row.settled_at is not None) == ("credits", True)


@pytest.mark.parametrize("life", CREDIT_LIVES, ids=lambda life: life.name)
@pytest.mark.parametrize("seed", range(40))
def test_cr_53_cr_56_any_order_doubled_ends_in_one_state(life: Life, seed: int) -> None:
    outside, events = Outside(life), our_events(life)
    shuffled = events * 2
    Random(seed).shuffle(shuffled)

    assert facts(outside.play(with_ledger(life), shuffled)) == facts(outside.play(with_ledger(life), events))


@pytest.mark.parametrize("life", CREDIT_LIVES, ids=lambda life: life.name)
def test_cr_56_every_order_of_the_first_events_ends_in_one_state(life: Life) -> None:
    life = beginning(life, MAX_PERMUTED)
    outside, first = Outside(life), our_events(life)
    resent = [{**event, "id": f"{event['id']}_again"} for event in first if event["type"] == "invoice.paid"]
    orders = ([*order, *resent, *order] for order in permutations(first))
    assert len({facts(outside.play(with_ledger(life), order)) for order in orders}) == 1
