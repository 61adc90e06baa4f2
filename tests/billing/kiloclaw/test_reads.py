from typing import Any

import pytest

from bursar.billing.account import Account, Profile
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.reads import (
    SubscriptionsRead,
    has_moved,
    read_targets,
    subscriptions_read,
    tells_of_the_row,
)
from bursar.billing.kiloclaw.rows import EarlyEvent, Subscription, hosting_of
from bursar.billing.stripe.objects import StripeSubscription
from tests.billing.kiloclaw.making import (
    CATALOGUE,
    DAY,
    NOW,
    a_paid_row,
    a_stripe_subscription,
    a_trial,
    an_account,
    an_instance,
    with_instance_row,
)

LATER = NOW + DAY


def read(account: Account, *subscriptions: StripeSubscription) -> Decision:
    return subscriptions_read(account, SubscriptionsRead(subscriptions, 1, LATER), CATALOGUE, "step:1")


def row_after(account: Account, *subscriptions: StripeSubscription) -> Subscription:
    row = hosting_of(read(account, *subscriptions).account).subscription
    assert row is not None
    return row


def other(**changes: Any) -> StripeSubscription:
    return a_stripe_subscription(**({"id": "sub_2", "created": int(LATER.timestamp())} | changes))


def created(subscription_id: str = "sub_1") -> EarlyEvent:
    return EarlyEvent("evt_c", subscription_id, "cus_1", "customer.subscription.created", NOW)


def test_kc_31_a_read_makes_the_row_of_a_created_subscription_and_forgets_what_was_remembered() -> None:
    decision = read(an_account(early=(created(),)), a_stripe_subscription(status="past_due"))

    hosting = hosting_of(decision.account)
    assert hosting.subscription is not None
    assert (hosting.subscription.status, hosting.subscription.past_due_since) == ("past_due", LATER)
    assert hosting.early_events == ()


def test_kc_31_a_subscription_that_began_and_ended_unseen_leaves_a_canceled_row() -> None:
    ended = a_stripe_subscription(status="canceled", ended_at=int((NOW + DAY).timestamp()))

    row = row_after(an_account(early=(created(),)), ended)

    assert (row.status, row.current_period_end) == ("canceled", NOW + DAY)


def test_kc_30_an_incomplete_subscription_that_expired_leaves_the_row_untouched() -> None:
    account = an_account(a_trial(), early=(created(),))

    decision = read(account, a_stripe_subscription(status="incomplete_expired"))

    assert hosting_of(decision.account).subscription == a_trial()
    assert hosting_of(decision.account).early_events == ()


def test_kc_30_an_incomplete_subscription_stays_remembered() -> None:
    account = an_account(a_trial(), early=(created(),))

    decision = read(account, a_stripe_subscription(status="incomplete"))

    assert hosting_of(decision.account).early_events == (created(),)


def test_kc_30_an_ended_one_gives_way() -> None:
    row = row_after(an_account(a_paid_row()), a_stripe_subscription(status="canceled"), other())

    assert (row.stripe_subscription_id, row.status) == ("sub_2", "active")


@pytest.mark.parametrize("status", ["active", "trialing", "past_due", "unpaid"])
def test_kc_30_a_live_one_stays(status: str) -> None:
    row = row_after(an_account(a_paid_row()), a_stripe_subscription(status=status), other())

    assert row.stripe_subscription_id == "sub_1"


def test_kc_37_a_paused_one_gives_way_to_a_live_one() -> None:
    row = row_after(an_account(a_paid_row()), a_stripe_subscription(status="paused"), other())

    assert row.stripe_subscription_id == "sub_2"


def test_kc_74_a_suspended_row_is_bound_to_the_one_that_pays_and_repaired() -> None:
    row = a_paid_row(status="unpaid", past_due_since=NOW, suspended_at=NOW, destruction_deadline=NOW + DAY)
    account = with_instance_row(row, an_instance(desired_state="stopped", generation=2))

    after = hosting_of(read(account, a_stripe_subscription(status="unpaid"), other()).account)

    assert after.subscription is not None
    assert (after.subscription.stripe_subscription_id, after.subscription.suspended_at) == ("sub_2", None)
    assert after.subscription.past_due_since is None
    assert after.instances[0].desired_state == "running"


def test_kc_37_an_end_without_another_cancels_with_the_earlier_end() -> None:
    row = a_paid_row(scheduled_plan="standard", scheduled_by="auto", stripe_schedule_id="sched_1")
    ended = a_stripe_subscription(status="canceled", ended_at=int((NOW + 2 * DAY).timestamp()))

    after = row_after(an_account(row), ended)

    assert (after.status, after.current_period_end) == ("canceled", NOW + 2 * DAY)
    assert (after.scheduled_plan, after.scheduled_by, after.stripe_schedule_id) == (None, None, None)


def test_kc_35_an_end_clears_past_due_and_keeps_the_suspension() -> None:
    suspension = {"suspended_at": NOW, "destruction_deadline": NOW + 7 * DAY}
    row = a_paid_row(status="past_due", past_due_since=NOW - 15 * DAY, **suspension)

    after = row_after(an_account(row), a_stripe_subscription(status="canceled"))

    assert (after.status, after.past_due_since) == ("canceled", None)
    assert (after.suspended_at, after.destruction_deadline) == (NOW, NOW + 7 * DAY)


def test_kc_30_another_users_subscription_is_never_bound() -> None:
    stranger = other(metadata={"type": "kiloclaw", "userId": "bob"})

    row = row_after(an_account(a_paid_row()), a_stripe_subscription(status="canceled"), stranger)

    assert row.stripe_subscription_id == "sub_1"


def test_kc_32_a_read_is_void_once_the_row_has_moved() -> None:
    account = an_account(a_paid_row(version=3))

    assert has_moved(account, SubscriptionsRead((), 2, LATER))
    assert not has_moved(account, SubscriptionsRead((), 3, LATER))


def test_kc_32_a_read_counts_as_applied_at_its_instant_but_never_turns_the_row_back() -> None:
    assert row_after(an_account(a_paid_row()), a_stripe_subscription()).last_stripe_event_at == LATER
    ahead = a_paid_row(last_stripe_event_at=LATER + DAY)
    assert row_after(an_account(ahead), a_stripe_subscription()).last_stripe_event_at == LATER + DAY


def test_kc_32_a_read_asks_for_every_customer_and_subscription_that_is_known() -> None:
    early = EarlyEvent("evt_e", "sub_2", "cus_3", "customer.subscription.created", NOW)
    profile = Profile("ada", stripe_customer_id="cus_2")

    targets = read_targets(an_account(a_paid_row(version=4), early=(early,), profile=profile))

    assert targets.customer_ids == ("cus_2", "cus_1", "cus_3")
    assert targets.subscription_ids == ("sub_1", "sub_2")
    assert targets.row_version == 4


def test_kc_31_a_user_whom_nobody_told_us_of_has_no_subscription_to_follow() -> None:
    account = an_account(early=(created(),), key="customer:cus_1")

    assert hosting_of(read(account, a_stripe_subscription(metadata={"type": "kiloclaw"})).account).subscription is None


def test_kc_74_another_subscription_that_is_past_due_begins_its_own_grace() -> None:
    row = a_paid_row(status="canceled", suspended_at=NOW, destruction_deadline=NOW + DAY)
    account = with_instance_row(row, an_instance(desired_state="stopped", generation=2))

    after = hosting_of(read(account, a_stripe_subscription(status="canceled"), other(status="past_due")).account)

    assert after.subscription is not None
    assert (after.subscription.status, after.subscription.past_due_since) == ("past_due", LATER)
    assert (after.subscription.suspended_at, after.subscription.destruction_deadline) == (None, None)
    assert after.instances[0].desired_state == "running"


def test_kc_74_an_answer_without_the_rows_own_subscription_proves_nothing() -> None:
    answer = SubscriptionsRead((), 1, LATER)

    assert not tells_of_the_row(an_account(a_paid_row()), answer)
    assert tells_of_the_row(an_account(a_paid_row()), SubscriptionsRead((a_stripe_subscription(),), 1, LATER))
    assert tells_of_the_row(an_account(a_trial()), answer)


def test_kc_61_a_row_made_by_a_subscription_points_to_the_instance_there_is() -> None:
    account = an_account(None, an_instance(), early=(created(),))

    row = row_after(account, a_stripe_subscription())

    assert row.instance_id == "inst-1"


def test_kc_34_a_plan_that_a_read_takes_from_the_metadata_is_counted() -> None:
    counts = read(an_account(a_paid_row()), a_stripe_subscription(price="price_new")).counts

    assert counts["unknown_price"] == 1
    assert "unknown_price" not in read(an_account(a_paid_row()), a_stripe_subscription()).counts
