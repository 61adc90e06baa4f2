from datetime import UTC, datetime
from typing import Any

import pytest

from bursar.billing.account import Account
from bursar.billing.decision import Decision
from bursar.billing.errors import UnknownStripeStatus, UnreadableMessage
from bursar.billing.kiloclaw.rows import EarlyEvent, Subscription, hosting_of
from bursar.billing.kiloclaw.stripe_events import invoice_event, subscription_event
from bursar.billing.steps import StepKind
from bursar.billing.stripe.objects import StripeSubscription, SubscriptionEvent
from tests.billing.kiloclaw.making import (
    CATALOGUE,
    COMMIT,
    DAY,
    NOW,
    SECOND,
    a_paid_row,
    a_trial,
    an_account,
    an_event,
    an_instance,
    an_invoice_event,
    subscription_json,
    with_instance_row,
)


def decide(account: Account, event: SubscriptionEvent) -> Decision:
    return subscription_event(account, event, CATALOGUE)


def row_after(account: Account, event: SubscriptionEvent) -> Subscription:
    row = hosting_of(decide(account, event).account).subscription
    assert row is not None
    return row


def asks_for_a_read(decision: Decision) -> bool:
    return [step.kind for step in decision.steps] == [StepKind.READ_SUBSCRIPTIONS]


def test_kc_30_created_makes_the_row() -> None:
    row = row_after(an_account(), an_event("created"))

    assert (row.plan, row.status, row.payment_source) == ("standard", "active", "stripe")
    assert (row.stripe_subscription_id, row.current_period_end) == ("sub_1", NOW + 30 * DAY)


def test_kc_30_created_takes_a_suspended_trial_over_and_starts_its_instance() -> None:
    trial = a_trial(status="canceled", suspended_at=NOW - DAY, destruction_deadline=NOW + DAY)
    account = with_instance_row(trial, an_instance(desired_state="stopped", generation=2, done_generation=2))

    after = hosting_of(decide(account, an_event("created")).account)

    assert after.subscription is not None
    assert (after.subscription.id, after.subscription.plan) == (trial.id, "standard")
    assert (after.subscription.suspended_at, after.subscription.destruction_deadline) == (None, None)
    assert (after.instances[0].desired_state, after.instances[0].generation) == ("running", 3)


def test_kc_30_a_row_bound_to_another_subscription_is_not_taken_over_without_asking_stripe() -> None:
    account = an_account(a_paid_row())

    decision = decide(account, an_event("created", id="sub_2"))

    assert asks_for_a_read(decision)
    assert hosting_of(decision.account).subscription == a_paid_row()


@pytest.mark.parametrize("status", ["incomplete", "incomplete_expired"])
def test_kc_30_an_incomplete_subscription_takes_nothing_over(status: str) -> None:
    decision = decide(an_account(a_trial()), an_event("created", status=status))

    assert hosting_of(decision.account).subscription == a_trial()


@pytest.mark.parametrize("kind", ["updated", "deleted"])
def test_kc_31_updated_and_deleted_never_make_a_row_but_are_remembered(kind: str) -> None:
    decision = decide(an_account(), an_event(kind))

    hosting = hosting_of(decision.account)
    assert hosting.subscription is None
    assert [early.event_id for early in hosting.early_events] == ["evt_1"]
    assert decision.steps == ()


def test_kc_31_created_after_an_early_event_asks_stripe_instead_of_believing_itself() -> None:
    early = EarlyEvent("evt_0", "sub_1", "cus_1", "customer.subscription.updated", NOW)

    decision = decide(an_account(early=(early,)), an_event("created"))

    assert asks_for_a_read(decision)
    assert hosting_of(decision.account).subscription is None


def test_kc_31_an_early_invoice_is_remembered_and_read_once_created_arrives() -> None:
    first = invoice_event(an_account(), an_invoice_event(), CATALOGUE)

    assert asks_for_a_read(decide(first.account, an_event("created")))


def test_kc_30_an_update_after_an_incomplete_created_asks_stripe() -> None:
    first = decide(an_account(a_trial()), an_event("created", status="incomplete"))

    assert asks_for_a_read(decide(first.account, an_event("updated", event_id="evt_2")))


def test_kc_32_an_older_event_changes_nothing() -> None:
    row = a_paid_row(last_stripe_event_at=NOW + DAY)

    decision = decide(an_account(row), an_event(at=NOW, status="past_due"))

    assert hosting_of(decision.account).subscription == row
    assert decision.steps == ()


def test_kc_32_a_tied_event_that_disagrees_is_read_again_and_one_that_agrees_is_not() -> None:
    account = an_account(a_paid_row())

    assert asks_for_a_read(decide(account, an_event(at=NOW, status="past_due")))
    assert decide(account, an_event(at=NOW)).steps == ()


def test_kc_32_an_event_just_before_a_read_may_be_newer_than_it_and_is_read_again() -> None:
    row = a_paid_row(last_stripe_event_at=NOW + 30 * SECOND, last_read_at=NOW + 30 * SECOND)

    assert asks_for_a_read(decide(an_account(row), an_event(at=NOW, status="past_due")))


def test_kc_32_an_ended_row_does_not_come_back_by_an_event_but_by_a_read() -> None:
    account = an_account(a_paid_row(status="canceled"))

    assert asks_for_a_read(decide(account, an_event(at=NOW + DAY)))


@pytest.mark.parametrize(
    ("stripe", "ours"),
    [("trialing", "active"), ("active", "active"), ("past_due", "past_due"), ("unpaid", "unpaid")],
)
def test_kc_33_statuses_are_mapped(stripe: str, ours: str) -> None:
    assert row_after(an_account(a_paid_row()), an_event(at=NOW + DAY, status=stripe)).status == ours


def test_kc_33_an_unknown_status_is_an_error() -> None:
    with pytest.raises(UnknownStripeStatus):
        decide(an_account(a_paid_row()), an_event(at=NOW + DAY, status="sleeping"))


def test_kc_34_the_plan_comes_from_the_live_price_not_from_the_metadata() -> None:
    row = row_after(an_account(a_paid_row()), an_event(at=NOW + DAY, price=COMMIT))

    assert row.plan == "commit"


def test_kc_34_an_unknown_price_falls_back_to_the_metadata_and_is_counted() -> None:
    metadata = {"type": "kiloclaw", "userId": "ada", "plan": "commit"}

    decision = decide(an_account(a_paid_row()), an_event(at=NOW + DAY, price="price_new", metadata=metadata))

    assert decision.counts["unknown_price"] == 1
    after = hosting_of(decision.account).subscription
    assert after is not None
    assert after.plan == "commit"


def test_kc_34_neither_price_nor_plan_is_an_error() -> None:
    with pytest.raises(UnreadableMessage):
        decide(an_account(a_paid_row()), an_event(at=NOW + DAY, price="price_new", metadata={"type": "kiloclaw"}))


def test_kc_35_past_due_counts_from_the_first_failure() -> None:
    first = decide(an_account(a_paid_row()), an_event(at=NOW + DAY, status="past_due"))
    later = row_after(first.account, an_event(at=NOW + 5 * DAY, status="unpaid", event_id="evt_2"))

    assert later.past_due_since == NOW + DAY


def test_kc_35_active_clears_past_due() -> None:
    account = an_account(a_paid_row(status="past_due", past_due_since=NOW))

    assert row_after(account, an_event(at=NOW + DAY)).past_due_since is None


def test_kc_36_the_period_is_read_from_the_items() -> None:
    row = row_after(an_account(a_paid_row()), an_event(at=NOW + DAY, start=NOW + 30 * DAY, end=NOW + 60 * DAY))

    assert (row.current_period_start, row.current_period_end) == (NOW + 30 * DAY, NOW + 60 * DAY)


def test_kc_36_a_payload_of_an_older_version_is_read_by_its_own_shape() -> None:
    raw = subscription_json()
    item = raw["items"]["data"][0]
    end = item.pop("current_period_end")
    raw |= {"current_period_start": item.pop("current_period_start"), "current_period_end": end}

    subscription = StripeSubscription.model_validate(raw)

    assert subscription.items[0].current_period_end == datetime.fromtimestamp(end, UTC)


def test_kc_36_a_payload_without_a_period_is_unreadable() -> None:
    raw = subscription_json()
    del raw["items"]["data"][0]["current_period_end"]

    with pytest.raises(ValueError, match="current_period_end"):
        StripeSubscription.model_validate(raw)


def test_kc_37_becoming_active_while_suspended_resumes() -> None:
    row = a_paid_row(status="past_due", past_due_since=NOW, suspended_at=NOW, destruction_deadline=NOW + 7 * DAY)
    account = with_instance_row(row, an_instance(desired_state="stopped", generation=2))

    after = hosting_of(decide(account, an_event(at=NOW + DAY)).account)

    assert after.subscription is not None
    assert after.subscription.suspended_at is None
    assert after.instances[0].desired_state == "running"


def test_kc_37_before_a_row_ends_the_other_subscriptions_are_looked_up() -> None:
    account = an_account(a_paid_row())

    decision = decide(account, an_event("deleted", at=NOW + DAY, status="canceled"))

    assert asks_for_a_read(decision)
    assert hosting_of(decision.account).subscription == a_paid_row()


@pytest.mark.parametrize("pending", [{"cancel_at_period_end": True}, {"cancel_at": int(NOW.timestamp())}])
def test_kc_38_a_pending_cancellation_is_followed(pending: dict[str, Any]) -> None:
    assert row_after(an_account(a_paid_row()), an_event(at=NOW + DAY, **pending)).cancel_at_period_end


def test_kc_39_a_paid_invoice_only_causes_a_read() -> None:
    row = a_paid_row(status="past_due", past_due_since=NOW)

    decision = invoice_event(an_account(row), an_invoice_event(), CATALOGUE)

    assert asks_for_a_read(decision)
    assert hosting_of(decision.account).subscription == row


def test_kc_39_a_failed_invoice_never_suspends() -> None:
    account = an_account(a_paid_row())

    assert invoice_event(account, an_invoice_event("invoice.payment_failed"), CATALOGUE).account is account


def test_kc_30_foreign_subscriptions_and_invoices_are_left_alone() -> None:
    account = an_account(a_trial())

    assert decide(account, an_event("created", metadata={})).account is account
    assert invoice_event(account, an_invoice_event(subscription_id="sub_x", metadata={}), CATALOGUE).account is account
