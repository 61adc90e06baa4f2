"""A credit-funded subscription that a read finds paid, though no event told of it here: its newest paid invoice at
Stripe settles it (KC-31, CR-53, CR-55).
"""

from typing import Any

import pytest

from bursar.billing.account import Account
from bursar.billing.credits.ledger import Credits
from bursar.billing.decision import Decision
from bursar.billing.errors import AskAgain
from bursar.billing.kiloclaw.access import pending_settlement
from bursar.billing.kiloclaw.reads import SubscriptionsRead, read_targets, subscriptions_read, unsettled
from bursar.billing.kiloclaw.rows import hosting_of
from bursar.billing.stripe.objects import StripeInvoice
from bursar.billing.values import replace
from tests.billing.credits.crediting import with_credits
from tests.billing.credits.settling import (
    METADATA,
    a_hybrid_row,
    an_unsettled_row,
    entries,
    invoice_json,
    paid,
    pair,
    row_of,
    told,
)
from tests.billing.kiloclaw.making import CATALOGUE, DAY, NOW, a_stripe_subscription, an_account

END = NOW + 30 * DAY
PAID_AT = NOW + DAY / 2
READ_AT = NOW + DAY


def read(account: Account, *subscriptions: dict[str, Any], **invoice: Any) -> Decision:
    """What Stripe shows is decided on; the newest paid invoice of sub_1 as it is at Stripe."""
    shown = tuple(a_stripe_subscription(**({"metadata": METADATA} | one)) for one in subscriptions)
    version = read_targets(account).row_version
    stripes = invoice_json(status_transitions={"paid_at": int(PAID_AT.timestamp())}, **invoice)
    asked = SubscriptionsRead(shown, version, READ_AT, paid={"sub_1": StripeInvoice.model_validate(stripes)})
    return subscriptions_read(account, asked, CATALOGUE, "step:1")


OTHERS = a_hybrid_row(stripe_subscription_id="sub_2", status="canceled", credit_renewal_at=None)


def test_cr_55_a_row_bound_again_to_a_subscription_that_was_settled_before_is_settled() -> None:
    settled_once = paid(with_credits(a_hybrid_row()), end=NOW + 31 * DAY).account
    moved = settled_once.having(replace(hosting_of(settled_once), subscription=OTHERS))
    decided = read(moved, {"id": "sub_1"}, end=NOW + 31 * DAY)

    row = row_of(decided)
    assert (row.stripe_subscription_id, row.status, row.settled_at) == ("sub_1", "active", PAID_AT)
    assert (row.current_period_end, row.credit_renewal_at) == (NOW + 31 * DAY, NOW + 31 * DAY)
    assert entries(decided.account) == pair(25, "in_1")


def test_cr_50_cr_53_a_payment_that_no_event_told_of_is_settled_and_its_event_adds_nothing() -> None:
    decided = read(with_credits(an_unsettled_row()), {})
    assert entries(decided.account) == pair(25, "in_1")
    assert not pending_settlement(row_of(decided))

    again = paid(decided.account)
    assert (entries(again.account), row_of(again)) == (pair(25, "in_1"), row_of(decided))


def test_kc_31_what_was_remembered_and_what_stripe_shows_are_one_payment() -> None:
    remembered = told(paid(with_credits(None)).account, "created").account
    decided = read(remembered, {})
    assert (entries(decided.account), row_of(decided).settled_at) == (pair(25, "in_1"), NOW)


@pytest.mark.parametrize(
    ("subscription", "invoice"),
    [({}, {"price": "price_unknown"}), ({}, {"currency": "eur"}), ({"metadata": METADATA | {"funding": "direct"}}, {})],
)
def test_cr_57_what_cannot_be_read_or_is_paid_directly_settles_nothing(
    subscription: dict[str, Any], invoice: dict[str, Any]
) -> None:
    decided = read(with_credits(None), subscription, **invoice)
    assert entries(decided.account) == []


def test_kc_31_without_the_ledger_stripe_is_asked_again() -> None:
    account = an_account(an_unsettled_row())
    assert Credits not in account.parts
    with pytest.raises(AskAgain):
        read(account, {})


def test_kc_31_stripe_is_asked_only_for_what_is_paid_in_credits_and_not_settled_here() -> None:
    def asked(account: Account, **subscription: Any) -> tuple[str, ...]:
        shown = a_stripe_subscription(**({"metadata": METADATA} | subscription))
        return unsettled(account, (shown,))

    assert asked(with_credits(an_unsettled_row())) == ("sub_1",)
    assert asked(with_credits(OTHERS)) == ("sub_1",)
    assert asked(with_credits(a_hybrid_row())) == ()
    assert asked(told(paid(with_credits(None)).account, "created").account) == (), "its payment is remembered"
    assert asked(with_credits(OTHERS), status="past_due") == ()
    assert asked(with_credits(OTHERS), metadata=METADATA | {"funding": "direct"}) == ()
    assert asked(with_credits(OTHERS), metadata=METADATA | {"userId": "eve"}) == ()
