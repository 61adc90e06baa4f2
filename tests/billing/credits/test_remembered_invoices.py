"""Paid invoices that came before their subscription was known (KC-31)."""

from typing import Any

import pytest

from bursar.billing.account import Account
from bursar.billing.credits.ledger import Credits
from bursar.billing.decision import Decision
from bursar.billing.errors import AskAgain
from bursar.billing.kiloclaw.reads import SubscriptionsRead, read_targets, subscriptions_read
from bursar.billing.kiloclaw.rows import hosting_of
from tests.billing.credits.crediting import with_credits
from tests.billing.credits.settling import METADATA, a_hybrid_row, entries, paid, pair, row_of, told
from tests.billing.kiloclaw.making import CATALOGUE, COMMIT, DAY, NOW, a_stripe_subscription, an_account

END = NOW + 30 * DAY
READ_AT = NOW + DAY


def read(account: Account, *subscriptions: dict[str, Any]) -> Decision:
    """What Stripe shows is decided on."""
    shown = tuple(a_stripe_subscription(**({"metadata": METADATA} | one)) for one in subscriptions)
    version = read_targets(account).row_version
    return subscriptions_read(account, SubscriptionsRead(shown, version, READ_AT), CATALOGUE, "step:1")


def paid_early(**invoice: Any) -> Account:
    """The invoice came first, then `created`."""
    return told(paid(with_credits(None), **invoice).account, "created").account


def test_kc_31_a_remembered_invoice_is_settled_by_the_read() -> None:
    account = paid_early(price=COMMIT, amount_paid=5400)
    decided = read(account, {})

    row = row_of(decided)
    assert (row.status, row.plan, row.settled_at, row.credit_renewal_at) == ("active", "commit", NOW, END)
    assert entries(decided.account) == pair(54, "in_1")
    assert hosting_of(decided.account).early_events == ()


def test_kc_31_kc_37_what_ended_meanwhile_is_settled_and_ends_when_stripe_says() -> None:
    ended_at = NOW + DAY / 2
    decided = read(paid_early(), {"status": "canceled", "ended_at": int(ended_at.timestamp())})

    row = row_of(decided)
    assert (row.status, row.current_period_end, row.credit_renewal_at) == ("canceled", ended_at, None)
    assert entries(decided.account) == pair(25, "in_1")


def test_kc_31_what_is_owed_meanwhile_is_past_due_though_the_first_invoice_was_paid() -> None:
    row = row_of(read(paid_early(), {"status": "past_due"}))

    assert (row.status, row.past_due_since, row.settled_at) == ("past_due", READ_AT, NOW)


def test_kc_31_a_direct_row_has_nothing_to_settle() -> None:
    direct: dict[str, Any] = {"metadata": {**METADATA, "funding": "direct"}}
    remembered = told(paid(with_credits(None), **direct).account, "created", **direct).account
    decided = read(remembered, direct)

    assert (row_of(decided).payment_source, entries(decided.account)) == ("stripe", [])


def test_cr_50_an_invoice_of_a_subscription_that_gave_way_is_a_pair_without_the_row() -> None:
    bound = with_credits(a_hybrid_row())
    remembered = paid(bound, id="in_0", subscription="sub_0")
    assert remembered.steps
    ended = {"id": "sub_0", "status": "canceled", "ended_at": int(NOW.timestamp())}
    decided = read(remembered.account, {}, ended)

    assert entries(decided.account) == pair(25, "in_0")
    assert (row_of(decided).stripe_subscription_id, row_of(decided).current_period_end) == ("sub_1", END)


def test_kc_31_without_the_ledger_the_read_is_asked_again() -> None:
    remembered = hosting_of(paid_early())
    account = an_account(None).having(remembered)
    assert Credits not in account.parts

    with pytest.raises(AskAgain):
        read(account, {})
