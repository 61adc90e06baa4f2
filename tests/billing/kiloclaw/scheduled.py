"""Schedules and phases as Stripe shows them, for the tests of the rules."""

from datetime import datetime
from typing import Any

from bursar.billing.calendar import add_months
from bursar.billing.kiloclaw.phases import ScheduleTerms
from bursar.billing.stripe.schedules import SchedulePhase, StripeSchedule
from tests.billing.kiloclaw.making import CATALOGUE, COMMIT, NOW, STANDARD

COMMIT_END = add_months(NOW, 6)
STANDARD_END = add_months(NOW, 1)
OURS = {"type": "kiloclaw", "userId": "ada", "origin": "auto", "plan": "standard"}
SWITCHING = {**OURS, "origin": "user", "plan": "commit"}
NULLS = dict.fromkeys(("application_fee_percent", "billing_thresholds", "default_tax_rates", "invoice_settings"))


def unix(instant: datetime) -> int:
    return int(instant.timestamp())


def terms(commit_ends_at: datetime | None = None) -> ScheduleTerms:
    return ScheduleTerms(user_id="ada", prices=CATALOGUE.prices, commit_ends_at=commit_ends_at)


def phase_json(price: str, starts_at: datetime, ends_at: datetime, **changes: Any) -> dict[str, Any]:
    item = {"price": {"id": price, "object": "price"}, "quantity": 1, "discounts": [], "metadata": {}, "tax_rates": []}
    return {
        **NULLS,
        "add_invoice_items": [],
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": None,
        "collection_method": "charge_automatically",
        "currency": "usd",
        "discounts": [],
        "start_date": unix(starts_at),
        "end_date": unix(ends_at),
        "items": [item],
        "metadata": {"type": "kiloclaw"},
        "proration_behavior": "create_prorations",
        "trial_end": None,
    } | changes


def a_phase(price: str, starts_at: datetime, ends_at: datetime, **changes: Any) -> SchedulePhase:
    return SchedulePhase.model_validate(phase_json(price, starts_at, ends_at, **changes))


def schedule_json(*phases: dict[str, Any], running: int = 0, **changes: Any) -> dict[str, Any]:
    """A schedule of `sub_1`; the phase of that number runs."""
    now = phases[running]
    return {
        "id": "sub_sched_1",
        "object": "subscription_schedule",
        "status": "active",
        "subscription": "sub_1",
        "metadata": OURS,
        "phases": list(phases),
        "current_phase": {"start_date": now["start_date"], "end_date": now["end_date"]},
    } | changes


def a_schedule(*phases: dict[str, Any], running: int = 0, **changes: Any) -> StripeSchedule:
    return StripeSchedule.model_validate(schedule_json(*phases, running=running, **changes))


def commit_phases() -> tuple[dict[str, Any], ...]:
    """Commit, then standard."""
    return (
        phase_json(COMMIT, NOW, COMMIT_END),
        phase_json(STANDARD, COMMIT_END, add_months(COMMIT_END, 1)),
    )


def switch_phases() -> tuple[dict[str, Any], ...]:
    """Standard, commit, standard."""
    commit_end = add_months(STANDARD_END, 6)
    return (
        phase_json(STANDARD, NOW, STANDARD_END),
        phase_json(COMMIT, STANDARD_END, commit_end),
        phase_json(STANDARD, commit_end, add_months(commit_end, 1)),
    )
