"""What must be true follows from Stripe's final states, and the verdict finds each kind of fault."""

from datetime import UTC, datetime

import pytest

from bursar.billing.values import replace
from bursar.service.demo.expectations import (
    RowView,
    at_the_end,
    expected_mails,
    expected_operations,
    expected_rows,
    handled_event_ids,
)
from bursar.service.demo.generator import generated_lives
from bursar.service.demo.lives import Life, recorded_lives
from bursar.service.demo.verdict import (
    Verdict,
    delivery_faults,
    instance_faults,
    instance_of,
    judge,
    mail_faults,
    message_faults,
    row_faults,
)

ALL_LIVES = [*generated_lives(), *recorded_lives()]
PERIOD_END = datetime(2026, 7, 1, tzinfo=UTC)
ACTIVE = RowView("user-a", "standard", "active", "sub_a", PERIOD_END)
ENDED = RowView("user-b", "standard", "canceled", "sub_b", PERIOD_END)
ON_TRIAL = RowView("user-c", "trial", "trialing")


def _only_row(life: Life) -> RowView:
    (row,) = expected_rows([life], ()).values()
    return row


def _lives_of(kind: str) -> list[Life]:
    return [life for life in ALL_LIVES if life.name.startswith(kind)]


@pytest.mark.parametrize(
    ("kind", "plan", "status"),
    [
        ("standard_renews", "standard", "active"),
        ("standard_unpaid", "standard", "unpaid"),
        ("standard_dunning_cancels", "standard", "canceled"),
        ("commit_becomes_standard", "standard", "active"),
        ("standard_switches_to_commit", "commit", "active"),
        ("delayed_billing", "standard", "active"),
        ("resubscribes", "commit", "active"),
    ],
)
def test_kc_33_kc_34_the_row_follows_stripes_final_state(kind: str, plan: str, status: str) -> None:
    for life in _lives_of(kind):
        row = _only_row(life)
        assert (row.plan, row.status) == (plan, status)


def test_kc_37_an_early_end_shortens_the_period() -> None:
    for life in _lives_of("standard_dunning_cancels"):
        row = _only_row(life)
        assert row.current_period_end == datetime.fromtimestamp(life.final[0]["ended_at"], UTC)
        assert life.final[0]["ended_at"] < life.final[0]["items"][0]["current_period_end"]


def test_kc_38_a_pending_cancellation_shows() -> None:
    assert all(_only_row(life).cancel_at_period_end for life in _lives_of("standard_cancels_at_period_end"))


def test_foreign_subscriptions_and_seats_have_no_row() -> None:
    for life in [*_lives_of("foreign"), *_lives_of("seats")]:
        assert expected_rows([life], ()) == {}
        assert handled_event_ids([life]) == set()


def test_kc_60_trials_end_and_nothing_else_changes_its_status() -> None:
    rows = {row.user_id: row for row in (ACTIVE, ENDED, ON_TRIAL)}
    ended = at_the_end(rows)
    assert ended["user-c"] == replace(ON_TRIAL, status="canceled")
    assert (ended["user-a"], ended["user-b"]) == (ACTIVE, ENDED)


def test_kc_85_which_mails_are_due() -> None:
    assert expected_mails(ACTIVE) == ()
    assert expected_mails(ENDED)[0] == "claw_suspended_subscription"
    assert expected_mails(replace(ENDED, status="unpaid"))[0] == "claw_suspended_payment"
    assert expected_mails(ON_TRIAL) == (
        "claw_trial_5d",
        "claw_trial_1d",
        "claw_suspended_trial",
        "claw_destruction_warning",
        "claw_instance_destroyed",
    )


def test_equal_rows_have_no_fault() -> None:
    assert row_faults({"user-a": ACTIVE}, {"user-a": ACTIVE}, "now") == []


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        ({}, "user-a: no row now"),
        ({"user-a": ACTIVE, "user-b": ENDED}, "user-b: a row now, and none is due"),
        ({"user-a": replace(ACTIVE, plan="commit")}, "user-a: plan is commit now, not standard"),
        ({"user-a": replace(ACTIVE, status="past_due")}, "user-a: status is past_due now, not active"),
        ({"user-a": replace(ACTIVE, cancel_at_period_end=True)}, "user-a: cancel_at_period_end is True now, not False"),
        ({"user-a": replace(ACTIVE, stripe_subscription_id="x")}, "user-a: stripe_subscription_id is x now, not sub_a"),
        (
            {"user-a": replace(ACTIVE, current_period_end=None)},
            f"user-a: current_period_end is None now, not {PERIOD_END}",
        ),
    ],
)
def test_a_wrong_row_is_found(found: dict[str, RowView], fault: str) -> None:
    assert row_faults({"user-a": ACTIVE}, found, "now") == [fault]


def _mails(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"user": user, "type": mail_type} for user, mail_type in pairs]


def test_kc_86_a_mail_that_comes_twice_is_found() -> None:
    due = [("user-b", mail_type) for mail_type in expected_mails(ENDED)]
    assert mail_faults({"user-b": ENDED}, _mails(*due)) == []
    assert mail_faults({"user-b": ENDED}, _mails(*due, due[0])) == ["user-b: claw_suspended_subscription came 2 times"]


def test_a_mail_too_many_or_too_few_is_found() -> None:
    due = [("user-b", mail_type) for mail_type in expected_mails(ENDED)]
    assert mail_faults({"user-b": ENDED}, _mails(*due[1:], ("user-a", "claw_trial_5d"))) == [
        "user-a: claw_trial_5d came and is not due",
        "user-b: claw_suspended_subscription did not come",
    ]


def test_kc_77_an_instance_left_behind_is_found() -> None:
    right: dict[str, dict[str, list[str]]] = {
        instance_of("user-a"): {"done": []},
        instance_of("user-b"): {"done": ["stop", "stop", "destroy"]},
    }
    rows = {"user-a": ACTIVE, "user-b": ENDED}
    assert expected_operations(ENDED) == ("stop", "destroy")
    assert instance_faults(rows, right) == []
    assert instance_faults(rows, {**right, instance_of("user-a"): {"done": ["stop"]}}) == [
        "user-a: the instance saw stop"
    ]


def test_an_instance_that_was_never_made_is_found() -> None:
    assert instance_faults({"user-b": ENDED}, {}) == ["user-b: the instance saw nothing"]


def test_ms_2_ms_6_lost_and_parked_messages_are_found() -> None:
    assert message_faults({"evt_1"}, {"evt_1", "evt_2"}, {}, {}) == []
    assert message_faults({"evt_1", "evt_2"}, {"evt_2"}, {"parked": 3}, {"failed": 1}) == [
        "1 events are lost, for example evt_1",
        "3 messages are parked",
        "1 steps are failed",
    ]


def test_webhooks_that_were_refused_are_found() -> None:
    assert delivery_faults({200: 5, 503: 2}, 0) == []
    assert delivery_faults({200: 5, 400: 1}, 2) == [
        "1 webhooks were answered 400",
        "2 webhooks were not delivered",
    ]


def test_the_verdict_is_the_exit_code() -> None:
    assert judge(3, [], []).exit_code == 0
    assert judge(3, [], []).sentence == "all 3 rows equal Stripe's; no mail twice; nothing parked; nothing lost"
    assert judge(3, ["a"], ["b"]) == Verdict(3, ("a", "b"))
    assert judge(3, ["a"]).exit_code == 1
