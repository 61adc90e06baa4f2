"""Every way of a row's life is declared (KC-10…KC-120), and what is not declared is refused."""

from datetime import datetime
from itertools import product

import pytest

from bursar.billing.errors import Refused, UndeclaredTransition
from bursar.billing.kiloclaw.deletion import delete_user
from bursar.billing.kiloclaw.enforcement import Circumstances, enforce
from bursar.billing.kiloclaw.reads import SubscriptionsRead, subscriptions_read
from bursar.billing.kiloclaw.row_changes import with_row
from bursar.billing.kiloclaw.rows import Instance, Subscription, hosting_of
from bursar.billing.kiloclaw.stripe_events import subscription_event
from bursar.billing.kiloclaw.transitions import DECLARED, State, state_of
from bursar.billing.operations import Operations
from bursar.billing.values import replace
from tests.billing.kiloclaw.making import (
    CATALOGUE,
    DAY,
    NOW,
    a_paid_row,
    a_stripe_subscription,
    a_trial,
    an_account,
    an_event,
    with_instance_row,
)

LATER = NOW + 40 * DAY
SUSPENDED = {"suspended_at": NOW, "destruction_deadline": NOW + 7 * DAY}
DESTROYED = {"suspended_at": NOW}
STANDINGS = {"": {}, "_suspended": SUSPENDED, "_destroyed": DESTROYED}


def paid(status: str, standing: dict[str, datetime]) -> Subscription:
    since = NOW if status in ("past_due", "unpaid") else None
    return a_paid_row(status=status, past_due_since=since, **standing)


ROWS = {
    State.TRIAL: a_trial(),
    State.TRIAL_ENDED: a_trial(status="canceled"),
    State.TRIAL_SUSPENDED: a_trial(status="canceled", **SUSPENDED),
    State.TRIAL_DESTROYED: a_trial(status="canceled", **DESTROYED),
    State.ACTIVE: a_paid_row(),
    **{
        State(f"{status}{standing}"): paid(status, columns)
        for status in ("past_due", "unpaid", "canceled")
        for standing, columns in STANDINGS.items()
    },
}
BEFORE = {State.NO_ROW: None, **ROWS}


def moved(source: State, target: State) -> State:
    account = an_account(BEFORE[source])
    return state_of(hosting_of(with_row(account, ROWS[target])).subscription)


def test_every_state_has_a_row_that_stands_there() -> None:
    assert set(ROWS) | {State.NO_ROW, State.DELETED} == set(State)
    assert {state: state_of(row) for state, row in ROWS.items()} == {state: state for state in ROWS}


@pytest.mark.parametrize(("source", "target"), list(product(BEFORE, ROWS)), ids=lambda state: state.value)
def test_what_is_declared_is_let_through_and_nothing_else(source: State, target: State) -> None:
    if source == target or (source, target) in DECLARED:
        assert moved(source, target) is target
        return
    with pytest.raises(UndeclaredTransition, match=f"from {source.value} to {target.value}"):
        moved(source, target)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (State.ACTIVE, State.CANCELED_SUSPENDED),  # KC-73: never an active row
        (State.ACTIVE, State.TRIAL),  # KC-11: no second trial
        (State.UNPAID_SUSPENDED, State.CANCELED),  # KC-90: only cover lifts a suspension, no mere change of status
        (State.CANCELED_DESTROYED, State.CANCELED_SUSPENDED),  # KC-73: a deadline that is over does not come back
        (State.PAST_DUE, State.PAST_DUE_DESTROYED),  # KC-72: never without the days after the suspension
        (State.TRIAL_SUSPENDED, State.TRIAL),  # KC-60
    ],
)
def test_kc_73_kc_90_what_no_rule_allows_is_not_declared(source: State, target: State) -> None:
    assert (source, target) not in DECLARED


@pytest.mark.parametrize(
    "impossible",
    [
        a_paid_row(status="trialing"),
        a_trial(status="active"),
        a_trial(status="past_due"),
        a_paid_row(**SUSPENDED),
        a_trial(**SUSPENDED),
        a_paid_row(destruction_deadline=NOW),
    ],
)
def test_kc_1_a_combination_that_no_rule_knows_is_no_state(impossible: Subscription) -> None:
    with pytest.raises(UndeclaredTransition, match="no such state"):
        with_row(an_account(), impossible)


@pytest.mark.parametrize("state", ROWS, ids=lambda state: state.value)
def test_kc_120_who_may_be_deleted_is_declared(state: State) -> None:
    row = replace(ROWS[state], cancel_at_period_end=state is State.ACTIVE)
    try:
        delete_user(an_account(row).having(Operations()), (), NOW)
    except Refused:
        assert (state, State.DELETED) not in DECLARED
    else:
        assert (state, State.DELETED) in DECLARED


@pytest.mark.parametrize("state", ROWS, ids=lambda state: state.value)
@pytest.mark.parametrize("stripe_just_read", [True, False])
def test_kc_60_kc_74_no_sweep_leaves_the_table(state: State, *, stripe_just_read: bool) -> None:
    """Decided at once for each state, long after everything was due: nothing is raised."""
    account = with_instance_row(ROWS[state], Instance(id="inst-1", account_key="user:ada", created_at=NOW))
    enforce(account, Circumstances(CATALOGUE, LATER, stripe_just_read=stripe_just_read))


STRIPES = ("trialing", "active", "past_due", "unpaid", "incomplete", "canceled", "incomplete_expired", "paused")


@pytest.mark.parametrize("state", BEFORE, ids=lambda state: state.value)
@pytest.mark.parametrize("status", STRIPES)
def test_kc_33_no_event_of_stripe_leaves_the_table(state: State, status: str) -> None:
    for kind, subscription_id in product(("created", "updated", "deleted"), ("sub_1", "sub_2")):
        event = an_event(kind, NOW + DAY, status=status, id=subscription_id)
        subscription_event(an_account(BEFORE[state]), event, CATALOGUE)


@pytest.mark.parametrize("state", BEFORE, ids=lambda state: state.value)
@pytest.mark.parametrize("status", STRIPES)
def test_kc_30_kc_32_no_read_of_stripe_leaves_the_table(state: State, status: str) -> None:
    for other in (None, *STRIPES):
        own = a_stripe_subscription(status=status)
        second = (a_stripe_subscription(status=other, id="sub_2"),) if other else ()
        read = SubscriptionsRead((own, *second), 1, NOW + DAY)
        subscriptions_read(an_account(BEFORE[state]), read, CATALOGUE, "step:1")
