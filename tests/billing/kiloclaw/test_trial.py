from typing import Any

import pytest

from bursar.billing.account import Account
from bursar.billing.errors import Refused
from bursar.billing.kiloclaw.enforcement import Circumstances, enforce
from bursar.billing.kiloclaw.rows import Hosting, Subscription, hosting_of
from bursar.billing.kiloclaw.trial import provision, record_destroyed_by_user, record_earlybird, start_trial
from bursar.billing.values import replace
from tests.billing.kiloclaw.making import (
    CATALOGUE,
    DAY,
    HOUR,
    NOW,
    a_paid_row,
    a_trial,
    an_account,
    an_instance,
    with_instance_row,
)


def refusal(account: Account, instance_id: str = "inst-1") -> str:
    with pytest.raises(Refused) as refused:
        provision(account, instance_id, CATALOGUE, NOW, "command:1")
    return refused.value.code


def test_kc_10_a_trial_runs_thirty_days() -> None:
    row = hosting_of(start_trial(an_account(), CATALOGUE, NOW, "command:1").account).subscription

    assert row is not None
    assert (row.plan, row.status, row.trial_started_at, row.trial_ends_at) == ("trial", "trialing", NOW, NOW + 30 * DAY)


def test_kc_10_with_a_row_present_there_is_no_second_trial() -> None:
    with pytest.raises(Refused, match="You already have a subscription"):
        start_trial(an_account(a_trial()), CATALOGUE, NOW, "command:1")


@pytest.mark.parametrize(
    "hosting",
    [
        Hosting(instances=(an_instance(desired_state="destroyed", generation=2, destroyed_at=NOW),)),
        Hosting(earlybird_payment_id="pi_1"),
    ],
)
def test_kc_11_an_instance_ever_or_an_earlybird_purchase_ends_eligibility(hosting: Hosting) -> None:
    with pytest.raises(Refused, match="free trial"):
        start_trial(Account("user:ada", {Hosting: hosting}), CATALOGUE, NOW, "command:1")


def test_kc_12_the_first_provisioning_starts_a_trial_and_points_the_row_to_the_instance() -> None:
    hosting = hosting_of(provision(an_account(), "inst-1", CATALOGUE, NOW, "command:1").account)

    assert hosting.subscription is not None
    assert (hosting.subscription.status, hosting.subscription.instance_id) == ("trialing", "inst-1")
    assert hosting.live_instance is not None


def test_kc_12_the_same_instance_again_is_allowed() -> None:
    account = provision(an_account(), "inst-1", CATALOGUE, NOW, "command:1").account

    again = provision(account, "inst-1", CATALOGUE, NOW, "command:2")

    assert again.result == {"instance_id": "inst-1"}
    assert hosting_of(again.account) == hosting_of(account)  # its version too: nothing changed, nothing to log (KC-4)


def test_kc_12_without_access_provisioning_is_refused() -> None:
    assert refusal(an_account(a_paid_row(status="canceled"))) == "no_access"


def test_kc_2_a_second_live_instance_is_refused() -> None:
    assert refusal(with_instance_row(a_paid_row()), "inst-2") == "instance_exists"


def test_kc_73_once_marked_for_destruction_the_user_provisions_anew() -> None:
    doomed = an_instance(desired_state="destroyed", generation=2, destroying_since=NOW)
    account = with_instance_row(a_paid_row(), doomed)

    row = hosting_of(provision(account, "inst-2", CATALOGUE, NOW, "command:1").account).subscription

    assert refusal(account, "inst-1") == "instance_destroyed"
    assert row is not None
    assert row.instance_id == "inst-2"


def test_kc_12_the_users_own_destruction_leaves_a_suspension_standing() -> None:
    row = a_paid_row(status="past_due", past_due_since=NOW, suspended_at=NOW, destruction_deadline=NOW + 7 * DAY)
    account = with_instance_row(row, an_instance(desired_state="stopped", generation=2))

    hosting = hosting_of(record_destroyed_by_user(account, "inst-1", NOW).account)

    assert hosting.subscription == replace(row, instance_id="inst-1")
    instance = hosting.instances[0]
    assert (instance.destroyed_at, instance.done_generation, instance.generation) == (NOW, 3, 3)


def test_kc_11_an_earlybird_purchase_is_recorded_once() -> None:
    account = record_earlybird(an_account(), "pi_1", CATALOGUE, NOW).account

    assert hosting_of(record_earlybird(account, "pi_1", CATALOGUE, NOW).account).earlybird_payment_id == "pi_1"
    with pytest.raises(Refused, match="bought already"):
        record_earlybird(account, "pi_2", CATALOGUE, NOW)


SUSPENDED: dict[str, Any] = {"suspended_at": NOW, "destruction_deadline": NOW + 7 * DAY}


@pytest.mark.parametrize(
    "row",
    [
        replace(a_trial(), status="canceled", **SUSPENDED),
        *(a_paid_row(status=status, **SUSPENDED) for status in ("past_due", "unpaid", "canceled")),
    ],
    ids=lambda row: f"{row.plan}-{row.status}",
)
def test_kc_90_an_earlybird_purchase_while_suspended_brings_the_instance_back(row: Subscription) -> None:
    stopped = an_instance(desired_state="stopped", generation=2)
    before = with_instance_row(row, stopped)
    [instance] = hosting_of(before).instances

    hosting = hosting_of(record_earlybird(before, "pi_1", CATALOGUE, NOW).account)

    assert hosting.subscription == replace(
        row, suspended_at=None, destruction_deadline=None, version=row.version + 1, instance_id=instance.id
    )
    assert hosting.instances == (replace(instance, desired_state="running", generation=3),)


def test_kc_90_an_earlybird_purchase_after_its_date_brings_nothing_back() -> None:
    before = with_instance_row(a_paid_row(status="canceled", **SUSPENDED), an_instance(desired_state="stopped"))
    late = CATALOGUE.kiloclaw.earlybird.access_until

    after = record_earlybird(before, "pi_1", CATALOGUE, late).account

    assert hosting_of(after) == replace(hosting_of(before), earlybird_payment_id="pi_1")


@pytest.mark.parametrize(
    "row", [replace(a_trial(), status="canceled"), a_paid_row(status="past_due")], ids=["trial", "paid"]
)
def test_kc_76_an_instance_provisioned_under_earlybird_does_not_inherit_the_deadline_of_the_one_before(
    row: Subscription,
) -> None:
    gone = an_instance(desired_state="destroyed", destroyed_at=NOW)
    before = with_instance_row(replace(row, **SUSPENDED), gone)
    bought = record_earlybird(before, "pi_1", CATALOGUE, NOW).account

    after = provision(bought, "inst-2", CATALOGUE, NOW, "command:1").account

    covered = Circumstances(CATALOGUE, NOW + 6 * DAY, stripe_just_read=True)
    assert enforce(after, covered, only={"destruction_warning"}).steps == ()
    over = replace(covered, now=CATALOGUE.kiloclaw.earlybird.access_until + HOUR)
    left = hosting_of(enforce(after, over, only={"destruction"}).account).live_instance
    assert left is not None
    assert left.id == "inst-2"


def test_kc_73_a_deadline_that_has_passed_its_instance_is_no_matter_of_a_new_one() -> None:
    gone = an_instance(desired_state="destroyed", destroyed_at=NOW)
    before = with_instance_row(a_paid_row(status="canceled", suspended_at=NOW), gone)
    bought = record_earlybird(before, "pi_1", CATALOGUE, NOW).account

    row = hosting_of(provision(bought, "inst-2", CATALOGUE, NOW, "command:1").account).subscription

    assert row is not None
    assert (row.instance_id, row.suspended_at, row.destruction_deadline) == ("inst-2", NOW, None)
