"""What a renewal will cost, as the status tells it (KC-113), and what a dry run lists of it (KC-79)."""

from typing import Any

import pytest

from bursar.billing.credits.periods import next_cost_microdollars
from bursar.billing.kiloclaw.enforcement import Circumstances
from bursar.billing.kiloclaw.foreseeing import foresee
from bursar.billing.kiloclaw.rows import Subscription, hosting_of
from bursar.billing.kiloclaw.status import billing_status
from tests.billing.credits.crediting import DOLLAR, DUE, a_commit_row, a_credit_row, with_credits
from tests.billing.kiloclaw.making import CATALOGUE, DAY, a_paid_row

SWITCHING: dict[str, Any] = {"scheduled_plan": "commit", "scheduled_by": "user"}


@pytest.mark.parametrize(
    ("row", "dollars"),
    [
        (a_credit_row(), 25),
        (a_credit_row(**SWITCHING), 54),
        (a_commit_row(), 25),
        (a_commit_row(commit_ends_at=DUE + 180 * DAY), 0),
        (a_credit_row(stripe_subscription_id="sub_1"), 25),
        (a_credit_row(cancel_at_period_end=True), None),
        (a_credit_row(status="canceled"), None),
        (a_paid_row(), None),
    ],
    ids=["standard", "switching", "commit ends", "paid ahead", "hybrid", "canceling", "canceled", "direct"],
)
def test_kc_113_the_next_renewal_and_its_cost(row: Subscription, dollars: int | None) -> None:
    cost = None if dollars is None else dollars * DOLLAR
    assert next_cost_microdollars(row, CATALOGUE.kiloclaw.credits) == cost
    shown = billing_status(hosting_of(with_credits(row)), CATALOGUE, DUE)["subscription"]
    assert shown["nextRenewalCostMicrodollars"] == cost
    assert shown["paymentSource"] == row.payment_source
    assert shown["has_stripe_funding"] == (row.stripe_subscription_id is not None)


def test_kc_79_a_dry_run_lists_the_mail_of_a_renewal_that_nothing_pays() -> None:
    facts = Circumstances(CATALOGUE, DUE)
    (effect,) = foresee(with_credits(a_credit_row(), dollars=5), facts, ("credit_renewal",))
    assert (effect.sweep, effect.kind, effect.subject) == ("credit_renewal", "mail", "claw_credit_renewal_failed")
    assert foresee(with_credits(a_credit_row(), dollars=25), facts, ("credit_renewal",)) == []
