"""Banner, lock reason and access over every combination that a customer may be in, read off the tables of the rules."""

from datetime import datetime
from itertools import product
from typing import Any

import pytest

from bursar.billing.errors import UndeclaredTransition
from bursar.billing.kiloclaw.access import access
from bursar.billing.kiloclaw.rows import Hosting, Instance, Subscription
from bursar.billing.kiloclaw.status import billing_status, refusal_reason
from bursar.billing.kiloclaw.transitions import state_of
from bursar.billing.values import Value, replace
from tests.billing.kiloclaw.making import CATALOGUE, DAY, NOW, a_paid_row, a_trial, an_instance

UNTIL = CATALOGUE.kiloclaw.earlybird.access_until
TRIAL_BANNERS = {  # KC-111, by the days that remain
    0: "trial_expires_today",
    1: "trial_ending_very_soon",
    2: "trial_ending_very_soon",
    3: "trial_ending_soon",
    5: "trial_ending_soon",
    6: "trial_active",
    30: "trial_active",
}
TRIAL_DAYS_LEFT = (-1, *TRIAL_BANNERS)
PLANS = (None, "trial", "standard", "commit")
STATUSES = ("trialing", "active", "past_due", "canceled", "unpaid")
FUNDINGS = ("stripe", "hybrid", "hybrid_unsettled", "credits")
LIVE = an_instance()
GONE = an_instance(desired_state="destroyed", generation=2, destroyed_at=NOW)
INSTANCES: dict[str, tuple[Instance, ...]] = {"live": (LIVE,), "destroyed": (GONE,), "never": ()}


class Standing(Value):
    """One combination."""

    plan: str | None
    status: str
    suspended: bool
    canceling: bool
    instance: str
    earlybird: str  # never, ahead (more than 14 days), soon, over
    days_left: int = 30
    funding: str = "stripe"

    @property
    def now(self) -> datetime:
        return {"soon": UNTIL - 13 * DAY, "over": UNTIL}.get(self.earlybird, NOW)

    @property
    def row(self) -> Subscription | None:
        if self.plan is None:
            return None
        suspension = {"suspended_at": self.now, "destruction_deadline": self.now + 7 * DAY} if self.suspended else {}
        common: dict[str, Any] = {
            "status": self.status,
            "cancel_at_period_end": self.canceling,
            "instance_id": "inst-1",
            **suspension,
        }
        if self.plan == "trial":
            return a_trial(trial_ends_at=self.now + self.days_left * DAY, **common)
        return replace(a_paid_row(plan=self.plan, **common), **self._funded)

    @property
    def hosting(self) -> Hosting:
        bought = None if self.earlybird == "never" else "pi_1"
        return Hosting(subscription=self.row, instances=INSTANCES[self.instance], earlybird_payment_id=bought)

    @property
    def _funded(self) -> dict[str, Any]:
        columns: dict[str, dict[str, Any]] = {
            "stripe": {},
            "hybrid": {"payment_source": "credits", "settled_at": NOW},
            "hybrid_unsettled": {"payment_source": "credits"},
            "credits": {"payment_source": "credits", "stripe_subscription_id": None, "credit_renewal_at": NOW},
        }
        return columns[self.funding]


def is_possible(standing: Standing) -> bool:
    try:
        state_of(standing.row)
    except UndeclaredTransition:
        return False
    return True


def rows_of(plan: str | None) -> list[tuple[str, bool, bool, int, str]]:
    """Status, suspended, canceling, days left, funding."""
    if plan is None:
        return [("none", False, False, 30, "stripe")]
    if plan == "trial":
        return list(product(STATUSES, (False, True), (False,), TRIAL_DAYS_LEFT, ("stripe",)))
    return list(product(STATUSES, (False, True), (False, True), (30,), FUNDINGS))


ALL = [
    standing
    for plan in PLANS
    for (status, suspended, canceling, days_left, funding), instance, earlybird in product(
        rows_of(plan), INSTANCES, ("never", "ahead", "soon", "over")
    )
    if is_possible(
        standing := Standing(plan, status, suspended, canceling, instance, earlybird, days_left, funding),
    )
]


def expected_reason(one: Standing) -> str | None:
    """KC-100."""
    settled = one.funding != "hybrid_unsettled"
    pays = one.status == "active" or (one.status == "past_due" and not one.suspended)
    if one.plan in ("standard", "commit") and settled and pays:
        return "subscription"
    if one.plan == "trial" and one.status == "trialing" and one.days_left > 0:
        return "trial"
    return "earlybird" if one.earlybird in ("ahead", "soon") else None


def expected_banner(one: Standing) -> str:
    """KC-111."""
    if one.status in ("past_due", "unpaid"):
        return "subscription_past_due"
    if one.status == "active":
        return "subscription_canceling" if one.canceling else "subscribed"
    if one.status == "trialing":
        return TRIAL_BANNERS[max(one.days_left, 0)]
    return {"ahead": "earlybird_active", "soon": "earlybird_ending_soon"}.get(one.earlybird, "none")


def expected_lock(one: Standing) -> str | None:
    """KC-112."""
    waits = one.funding == "hybrid_unsettled" and one.status != "canceled"
    if expected_reason(one) or waits:
        return None
    fate = "alive" if one.instance == "live" else "destroyed"
    if one.plan == "trial":
        return f"trial_expired_instance_{fate}"
    if one.plan and one.status == "canceled":
        return f"subscription_expired_instance_{fate}"
    if one.plan:
        return "past_due_grace_exceeded"
    if one.earlybird != "never":
        return "earlybird_expired"
    return None if one.instance == "never" else "no_access"


def test_all_states_are_told_apart() -> None:
    assert len(set(ALL)) == len(ALL)
    assert len({state_of(one.row) for one in ALL}) == len({"no row", "trial", "ended", "suspended"}) + len(
        {"active"} | {(status, suspended) for status in ("past_due", "unpaid", "canceled") for suspended in (0, 1)}
    )


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("earlybird", ["never", "ahead", "soon", "over"])
def test_kc_110_kc_112_every_state_is_told_as_the_rules_say(plan: str | None, earlybird: str) -> None:
    chosen = [one for one in ALL if (one.plan, one.earlybird) == (plan, earlybird)]
    assert chosen
    for one in chosen:
        status = billing_status(one.hosting, CATALOGUE, one.now)

        assert status["accessReason"] == expected_reason(one), one
        assert status["banner"] == expected_banner(one), one
        assert status["lockReason"] == expected_lock(one), one


@pytest.mark.parametrize("plan", PLANS)
def test_kc_101_kc_112_access_lock_and_sections_agree(plan: str | None) -> None:
    for one in (standing for standing in ALL if standing.plan == plan):
        status = billing_status(one.hosting, CATALOGUE, one.now)

        assert status["hasAccess"] == access(one.hosting, CATALOGUE, one.now).granted, one
        assert status["hasAccess"] == (status["accessReason"] is not None), one
        assert not (status["hasAccess"] and status["lockReason"]), one
        assert status["hasAccess"] or refusal_reason(one.hosting, CATALOGUE, one.now), one
        assert (status["trial"] is not None) == (plan == "trial"), one
        assert (status["subscription"] is not None) == (plan in ("standard", "commit")), one
        assert (status["earlybird"] is not None) == (one.earlybird != "never"), one
        assert (status["instance"] is not None) == (one.instance != "never"), one
        new = plan is None and one.instance == "never" and one.earlybird == "never"
        assert status["trialEligible"] == new, one


def test_kc_113_funding_and_flag_of_every_paid_state() -> None:
    for one in (standing for standing in ALL if standing.plan in ("standard", "commit")):
        told = billing_status(one.hosting, CATALOGUE, one.now)["subscription"]

        assert (told["plan"], told["status"], told["cancelAtPeriodEnd"]) == (one.plan, one.status, one.canceling)
        assert told["has_stripe_funding"] == (one.funding != "credits"), one
        assert told["paymentSource"] == ("stripe" if one.funding == "stripe" else "credits"), one
