"""The phases of a schedule: which there shall be, and what those there are say (KC-40…KC-47)."""

from datetime import timedelta
from typing import Any

import pytest

from bursar.billing.calendar import add_months
from bursar.billing.kiloclaw.phases import KeptSchedule, commit_course, shown, switch_to_commit, whose
from bursar.billing.kiloclaw.sent_phases import sent_back
from bursar.billing.stripe.schedules import SchedulePhase
from tests.billing.kiloclaw.making import CATALOGUE, COMMIT, DAY, NOW, STANDARD, a_stripe_subscription
from tests.billing.kiloclaw.scheduled import (
    COMMIT_END,
    OURS,
    STANDARD_END,
    SWITCHING,
    a_phase,
    a_schedule,
    commit_phases,
    phase_json,
    switch_phases,
    terms,
    unix,
)

PRELAUNCH_END = NOW + 10 * DAY
RENEWED_END = add_months(COMMIT_END, 6)
RUNNING = a_phase(COMMIT, NOW, COMMIT_END)
PRELAUNCH = a_phase(COMMIT, NOW, PRELAUNCH_END, trial_end=unix(PRELAUNCH_END))
EXTENDED = a_phase(COMMIT, COMMIT_END, RENEWED_END, trial_end=unix(RENEWED_END))
LATE = a_phase(COMMIT, NOW, COMMIT_END + 3 * DAY, trial_end=unix(NOW + 3 * DAY))


def outline(phases: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """(price, how long) for each phase."""
    return [(phase["items"][0]["price"], _length(phase)) for phase in phases]


def _length(phase: dict[str, Any]) -> str:
    if "duration" in phase:
        return f"{phase['duration']['interval_count']} {phase['duration']['interval']}"
    return f"{'free ' if phase.get('trial') else ''}until {phase['end_date']}"


@pytest.mark.parametrize(
    ("running", "paid_until", "expected"),
    [
        (RUNNING, None, [(COMMIT, "6 month"), (STANDARD, "1 month")]),
        (RUNNING, COMMIT_END, [(COMMIT, "6 month"), (STANDARD, "1 month")]),
        (
            RUNNING,
            RENEWED_END,
            [(COMMIT, "6 month"), (COMMIT, f"free until {unix(RENEWED_END)}"), (STANDARD, "1 month")],
        ),
        (
            PRELAUNCH,
            None,
            [(COMMIT, f"until {unix(PRELAUNCH_END)}"), (COMMIT, "6 month"), (STANDARD, "1 month")],
        ),
        (
            PRELAUNCH,
            add_months(PRELAUNCH_END, 12),
            [
                (COMMIT, f"until {unix(PRELAUNCH_END)}"),
                (COMMIT, "6 month"),
                (COMMIT, f"free until {unix(add_months(PRELAUNCH_END, 12))}"),
                (STANDARD, "1 month"),
            ],
        ),
        (EXTENDED, RENEWED_END, [(COMMIT, f"until {unix(RENEWED_END)}"), (STANDARD, "1 month")]),
        (LATE, None, [(COMMIT, f"until {unix(COMMIT_END + 3 * DAY)}"), (STANDARD, "1 month")]),
    ],
    ids=["plain", "known", "renewed", "prelaunch", "prelaunch renewed", "running on paid months", "no round months"],
)
def test_kc_40_kc_47_a_commitment_runs_its_course(
    running: SchedulePhase, paid_until: Any, expected: list[tuple[str, str]]
) -> None:
    assert outline(commit_course(running, terms(paid_until))) == expected


def test_kc_47_paid_months_that_run_grow_by_further_ones() -> None:
    twice_renewed_end = add_months(RENEWED_END, 6)

    phases = commit_course(EXTENDED, terms(twice_renewed_end), RENEWED_END)

    assert outline(phases) == [(COMMIT, f"free until {unix(twice_renewed_end)}"), (STANDARD, "1 month")]
    assert "trial_end" not in phases[0], "Stripe takes one of the two"
    assert phases[0]["start_date"] == unix(COMMIT_END)


def test_kc_42_standard_becomes_commit_at_the_periods_end() -> None:
    running = a_phase(STANDARD, NOW, STANDARD_END + timedelta(days=9))

    phases = switch_to_commit(running, STANDARD_END, terms())

    assert outline(phases) == [(STANDARD, f"until {unix(STANDARD_END)}"), (COMMIT, "6 month"), (STANDARD, "1 month")]


def test_kc_40_no_promotion_reaches_a_commit_phase_and_nothing_is_prorated() -> None:
    promoted = a_phase(STANDARD, NOW, STANDARD_END, discounts=[{"discount": "di_1", "coupon": "co_1"}])

    current, commit, _ = switch_to_commit(promoted, STANDARD_END, terms())

    assert current["discounts"] == [{"discount": "di_1"}]
    assert commit["discounts"] == ""
    assert {phase["proration_behavior"] for phase in (current, commit)} == {"none"}


def test_kc_40_a_running_phase_is_sent_back_whole() -> None:
    running = a_phase(
        COMMIT,
        NOW,
        COMMIT_END,
        trial_end=unix(NOW + DAY),
        default_payment_method={"id": "pm_1", "object": "payment_method"},
        default_tax_rates=[{"id": "txr_1"}],
        invoice_settings={"account_tax_ids": None, "days_until_due": None, "issuer": {"type": "self"}},
        items=[
            {
                "price": {"id": COMMIT},
                "quantity": 2,
                "discounts": [{"coupon": {"id": "co_2"}, "discount": None, "promotion_code": None}],
                "metadata": {"of": "ours"},
                "tax_rates": [{"id": "txr_2"}],
            }
        ],
    )

    assert sent_back(running) == {
        "start_date": unix(NOW),
        "end_date": unix(COMMIT_END),
        "trial_end": unix(NOW + DAY),
        "automatic_tax": {"enabled": False},
        "collection_method": "charge_automatically",
        "default_payment_method": "pm_1",
        "default_tax_rates": ["txr_1"],
        "invoice_settings": {"issuer": {"type": "self"}},
        "items": [
            {
                "price": COMMIT,
                "quantity": 2,
                "discounts": [{"coupon": "co_2"}],
                "metadata": {"of": "ours"},
                "tax_rates": ["txr_2"],
            }
        ],
        "metadata": {"type": "kiloclaw"},
        "proration_behavior": "none",
    }


def test_kc_40_later_phases_are_paid_as_the_running_one() -> None:
    running = a_phase(COMMIT, NOW, COMMIT_END, default_payment_method="pm_1", metadata={"of": "the running phase"})

    standard = commit_course(running, terms())[-1]

    assert standard["default_payment_method"] == "pm_1"
    assert "metadata" not in standard


@pytest.mark.parametrize(
    ("phases", "running", "metadata", "expected"),
    [
        (commit_phases(), 0, OURS, ("commit", COMMIT_END, "standard", "auto")),
        (commit_phases(), 1, OURS, ("standard", None, None, None)),
        (commit_phases(), 0, {**OURS, "origin": "user"}, ("commit", COMMIT_END, "standard", "user")),
        (switch_phases(), 0, SWITCHING, ("standard", None, "commit", "user")),
        (switch_phases(), 1, SWITCHING, ("commit", add_months(STANDARD_END, 6), "standard", "auto")),
        (switch_phases(), 2, SWITCHING, ("standard", None, None, None)),
        (
            (
                phase_json(COMMIT, NOW, PRELAUNCH_END, trial_end=unix(PRELAUNCH_END)),
                phase_json(COMMIT, PRELAUNCH_END, COMMIT_END),
                phase_json(STANDARD, COMMIT_END, RENEWED_END),
            ),
            0,
            OURS,
            ("commit", COMMIT_END, "standard", "auto"),
        ),
    ],
    ids=["commit", "its last phase", "to standard", "to commit", "arrived", "over", "prelaunch"],
)
def test_kc_45_what_a_schedule_says(phases: Any, running: int, metadata: dict[str, str], expected: Any) -> None:
    plan, commit_ends_at, scheduled_plan, scheduled_by = expected

    assert shown(a_schedule(*phases, running=running, metadata=metadata), CATALOGUE.prices) == KeptSchedule(
        schedule_id="sub_sched_1",
        plan=plan,
        commit_ends_at=commit_ends_at,
        scheduled_plan=scheduled_plan,
        scheduled_by=scheduled_by,
    )


@pytest.mark.parametrize(
    ("phases", "metadata", "expected"),
    [
        (commit_phases(), OURS, "ours"),
        (commit_phases()[:1], {}, "half_made"),
        (commit_phases(), {}, "foreign"),
        (commit_phases()[:1], {"made": "by hand"}, "foreign"),
        ([phase_json("price_other", NOW, COMMIT_END)], {}, "foreign"),
    ],
)
def test_kc_41_whose_a_schedule_is(phases: Any, metadata: dict[str, str], expected: str) -> None:
    subscription = a_stripe_subscription(price=COMMIT)

    assert whose(a_schedule(*phases, metadata=metadata), subscription) == expected
