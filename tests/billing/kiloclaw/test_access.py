from typing import Any

import pytest

from bursar.billing.kiloclaw.access import access
from bursar.billing.kiloclaw.rows import Hosting, Subscription
from tests.billing.kiloclaw.making import CATALOGUE, DAY, NOW, a_paid_row, a_trial

PAST_DUE = {"status": "past_due", "past_due_since": NOW}
HYBRID = {"payment_source": "credits"}
UNTIL = CATALOGUE.kiloclaw.earlybird.access_until


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (a_paid_row(), "subscription"),
        (a_paid_row(cancel_at_period_end=True), "subscription"),
        (a_paid_row(**PAST_DUE), "subscription"),
        (a_paid_row(**PAST_DUE, suspended_at=NOW), None),
        (a_paid_row(status="unpaid", past_due_since=NOW), None),
        (a_paid_row(status="canceled"), None),
        (a_paid_row(**HYBRID), None),
        (a_paid_row(**HYBRID, settled_at=NOW), "subscription"),
        (a_trial(trial_ends_at=NOW + DAY), "trial"),
        (a_trial(trial_ends_at=NOW), None),
        (a_trial(status="canceled"), None),
        (None, None),
    ],
)
def test_kc_100_access_by_the_row(row: Subscription | None, reason: str | None) -> None:
    granted = access(Hosting(subscription=row), CATALOGUE, NOW)

    assert (granted.granted, granted.reason) == (reason is not None, reason)


@pytest.mark.parametrize(("now", "granted"), [(UNTIL - DAY, True), (UNTIL, False)])
def test_kc_100_earlybird_until_its_date(now: Any, granted: bool) -> None:  # noqa: FBT001 - a table's column
    hosting = Hosting(subscription=a_paid_row(status="canceled"), earlybird_payment_id="pi_1")

    assert access(hosting, CATALOGUE, now).granted is granted
