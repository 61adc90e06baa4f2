"""Six further months of a commitment (KC-47)."""

from collections.abc import Mapping
from typing import Any

import pytest

from bursar.billing.calendar import add_months
from bursar.billing.errors import CallRefused, Permanent, Refused
from bursar.billing.kiloclaw.operations.renewal import Renewal, apply, renew, renew_commit
from bursar.billing.kiloclaw.phases import KeptSchedule
from bursar.billing.kiloclaw.rows import Subscription, hosting_of
from bursar.billing.operations import Ended, Failure
from bursar.billing.steps import StepKind
from bursar.billing.stripe.calls import Method
from bursar.billing.values import replace
from tests.billing.kiloclaw.making import CATALOGUE, COMMIT, NOW, STANDARD, a_paid_row, subscription_json
from tests.billing.kiloclaw.operations.driving import Driven, an_account, drive, facts, listed
from tests.billing.kiloclaw.scheduled import COMMIT_END, OURS, commit_phases, phase_json, schedule_json, terms, unix

RENEWED_END = add_months(COMMIT_END, 6)
ROW = a_paid_row(
    plan="commit",
    current_period_end=COMMIT_END,
    stripe_schedule_id="sub_sched_1",
    commit_ends_at=COMMIT_END,
    scheduled_plan="standard",
    scheduled_by="auto",
)
ASKED = Renewal(
    command_id="c1",
    customer_id="cus_1",
    subscription_id="sub_1",
    amount_cents=5_400,
    ends_at=RENEWED_END,
    terms=terms(COMMIT_END),
)
SUBSCRIPTION = subscription_json(
    price=COMMIT, end=COMMIT_END, schedule="sub_sched_1", default_payment_method={"id": "pm_1"}
)
EXTENDED = schedule_json(
    commit_phases()[0],
    phase_json(COMMIT, COMMIT_END, RENEWED_END, trial_end=unix(RENEWED_END)),
    phase_json(STANDARD, RENEWED_END, add_months(RENEWED_END, 1)),
)
KEPT = KeptSchedule(
    schedule_id="sub_sched_1", plan="commit", commit_ends_at=RENEWED_END, scheduled_plan="standard", scheduled_by="auto"
)


def an_invoice(status: str, amount_due: int = 5_400, **changes: Any) -> dict[str, Any]:
    return {"id": "in_1", "status": status, "amount_due": amount_due, "metadata": {"operation": "c1"}} | changes


STANDING: dict[str, Any] = {
    "subscription": SUBSCRIPTION,
    "schedule": schedule_json(*commit_phases()),
    "invoices": listed(an_invoice("paid", metadata={"operation": "another"}), an_invoice("paid", metadata={})),
    "create-invoice": an_invoice("draft", 0),
    "create-item": {"id": "ii_1"},
    "finalize-invoice": an_invoice("open"),
    "pay-invoice": an_invoice("paid"),
    "update-schedule": EXTENDED,
    "void-unpaid-invoice": an_invoice("void"),
    "invoice-after-refusal": an_invoice("open"),
}


def renewed(answers: Mapping[str, Mapping[str, Any] | CallRefused] | None = None) -> Driven:
    return drive(lambda: renew(ASKED), {**STANDING, **(answers or {})})


def test_kc_47_an_invoice_with_one_item_is_paid_and_the_schedule_rebuilt() -> None:
    driven = renewed()

    assert [call.method for call in driven.calls if call.changes_stripe] == [
        Method.CREATE_INVOICE,
        Method.CREATE_INVOICE_ITEM,
        Method.FINALIZE_INVOICE,
        Method.PAY_INVOICE,
        Method.UPDATE_SCHEDULE,
    ]
    created, item, paid = (driven.called(name) for name in ("create-invoice", "create-item", "pay-invoice"))
    assert created.params["pending_invoice_items_behavior"] == "exclude"
    assert created.params["metadata"]["operation"] == "c1"
    assert (item.params["invoice"], item.params["amount"], item.params["currency"]) == ("in_1", 5_400, "usd")
    assert paid.params == {"off_session": True, "payment_method": "pm_1"}
    assert driven.ended.result == {
        "commit_ends_at": RENEWED_END.isoformat(),
        "schedule": KEPT.model_dump(mode="json"),
    }


def test_kc_47_months_already_paid_are_a_trial_from_the_old_boundary() -> None:
    current, paid, standard = renewed().called("update-schedule").params["phases"]

    assert current["start_date"] == unix(NOW)
    assert (paid["trial"], paid["end_date"]) == (True, unix(RENEWED_END))
    assert [phase["items"][0]["price"] for phase in (current, paid, standard)] == [COMMIT, COMMIT, STANDARD]


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        ("card_declined", "payment_failed"),
        ("authentication_required", "payment_requires_action"),
        ("invoice_payment_intent_requires_action", "payment_requires_action"),
    ],
)
def test_kc_47_a_payment_that_fails_is_voided_and_nothing_changes(code: str, failure: str) -> None:
    driven = renewed({"pay-invoice": CallRefused(code, "Stripe: refused")})

    assert driven.failed_with == failure
    assert driven.ended.failure
    assert driven.ended.failure.status == 402
    assert driven.called("void-unpaid-invoice").target == "in_1"
    assert Method.UPDATE_SCHEDULE not in [call.method for call in driven.calls]


def test_kc_47_a_payment_that_is_not_made_at_once_is_voided() -> None:
    driven = renewed({"pay-invoice": an_invoice("open")})

    assert driven.failed_with == "payment_failed"
    assert driven.called("void-unpaid-invoice").target == "in_1"


def test_kc_47_an_item_that_is_refused_takes_the_draft_back() -> None:
    driven = renewed({"create-item": CallRefused("invalid", "Stripe: refused")})

    assert driven.failed_with == "stripe_refused"
    assert [call.method for call in driven.calls if call.name.startswith("undo:")] == [Method.DELETE_INVOICE]


def test_kc_47_a_refusal_after_the_customer_paid_is_a_payment() -> None:
    driven = renewed(
        {
            "pay-invoice": CallRefused("invoice_already_paid", "Stripe: refused"),
            "invoice-after-refusal": an_invoice("paid"),
            "paid-meanwhile": an_invoice("paid"),
        }
    )

    assert driven.failed_with is None
    assert driven.called("paid-meanwhile").settles


@pytest.mark.parametrize(
    ("known", "skipped"),
    [
        (an_invoice("draft", 0), {"create-invoice"}),
        (an_invoice("draft"), {"create-invoice", "create-item"}),
        (an_invoice("open"), {"create-invoice", "create-item", "finalize-invoice"}),
        (an_invoice("paid"), {"create-invoice", "create-item", "finalize-invoice", "pay-invoice"}),
        (an_invoice("void"), set()),
    ],
    ids=["empty draft", "draft", "open", "paid", "void"],
)
def test_kc_47_an_invoice_of_this_renewal_is_gone_on_with(known: dict[str, Any], skipped: set[str]) -> None:
    driven = renewed({"invoices": listed(known), "paid-before": an_invoice("paid")})

    made = {"create-invoice", "create-item", "finalize-invoice", "pay-invoice"}
    assert driven.failed_with is None
    assert made - set(driven.names) == skipped


@pytest.mark.parametrize("name", ["update-schedule", "schedule"])
def test_kc_47_once_paid_nothing_is_taken_back(name: str) -> None:
    driven = renewed(
        {
            name: CallRefused("invalid", "Stripe: refused"),
            "invoices": listed(an_invoice("paid")),
            "paid-before": an_invoice("paid"),
        }
    )

    assert driven.ended.result == {"commit_ends_at": RENEWED_END.isoformat(), "schedule": None}
    assert [call for call in driven.calls if call.name.startswith("undo:")] == []


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ({"schedule": schedule_json(*commit_phases(), metadata={"made": "by hand"})}, "foreign_schedule"),
        ({"subscription": {**SUBSCRIPTION, "cancel_at_period_end": True}}, "not_commit"),
        ({"subscription": subscription_json(price=STANDARD)}, "not_commit"),
    ],
)
def test_kc_41_kc_47_what_stands_at_stripe_refuses_before_anything_is_paid(answers: dict[str, Any], code: str) -> None:
    driven = renewed(answers)

    assert driven.failed_with == code
    assert [call for call in driven.calls if call.changes_stripe] == []


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (None, "not_commit"),
        (a_paid_row(), "not_commit"),
        (replace(ROW, status="past_due", past_due_since=NOW), "not_active"),
        (replace(ROW, cancel_at_period_end=True), "cancellation_pending"),
        (replace(ROW, commit_ends_at=None), "operation_in_progress"),
        (replace(ROW, commit_ends_at=NOW), "operation_in_progress"),
    ],
)
def test_kc_47_only_a_commitment_that_runs_and_stays(row: Subscription | None, code: str) -> None:
    with pytest.raises(Refused) as refusal:
        renew_commit(an_account(row), CATALOGUE, NOW, "c1")

    assert refusal.value.code == code


def test_kc_47_a_renewal_is_one_operation_on_the_old_end() -> None:
    [step] = renew_commit(an_account(ROW), CATALOGUE, NOW, "c1").steps

    assert step.kind is StepKind.OPERATION
    assert Renewal.model_validate(step.payload["asked"]) == ASKED


def applied(row: Subscription, schedule: KeptSchedule | None, failure: Failure | None = None) -> Any:
    kept = schedule.model_dump(mode="json") if schedule else None
    result = None if failure else {"commit_ends_at": RENEWED_END.isoformat(), "schedule": kept}
    decision = apply(an_account(row), ASKED, Ended(result, failure), facts())
    return hosting_of(decision.account).subscription, [step.kind for step in decision.steps]


def test_kc_47_the_end_moves_six_months_on() -> None:
    row, steps = applied(ROW, KEPT)

    assert row == replace(ROW, version=row.version, commit_ends_at=RENEWED_END)
    assert steps == []


def test_kc_47_a_schedule_that_was_refused_is_kept_later_with_the_months_that_are_paid() -> None:
    row, steps = applied(ROW, None)

    assert row.commit_ends_at == RENEWED_END
    assert steps == [StepKind.KEEP_SCHEDULE]


def test_kc_47_without_a_payment_the_row_stays() -> None:
    assert applied(ROW, None, Failure("payment_failed", "", 402)) == (ROW, [])


@pytest.mark.parametrize(
    "changes",
    [
        {"plan": "standard", "commit_ends_at": None},
        {"stripe_subscription_id": "sub_2"},
        {"status": "canceled"},
    ],
)
def test_kc_47_months_that_were_paid_and_cannot_be_given_are_an_operators(changes: dict[str, Any]) -> None:
    with pytest.raises(Permanent, match="were paid and cannot be given: refund the invoice of operation c1"):
        applied(replace(ROW, **changes), KEPT)


def test_kc_47_a_payment_for_a_commitment_that_has_just_become_standard_is_an_operators() -> None:
    over = schedule_json(*commit_phases(), running=1)

    with pytest.raises(Permanent, match="were paid and cannot be given"):
        renewed({"schedule": over})


def test_kc_47_a_payment_under_way_that_cannot_be_voided_is_an_operators() -> None:
    refused = CallRefused("invoice_payment_in_progress", "Stripe: refused")

    with pytest.raises(Permanent, match="neither paid nor void"):
        renewed({"pay-invoice": an_invoice("open"), "void-unpaid-invoice": refused})


def test_kc_47_our_mark_stays_on_the_schedule() -> None:
    assert renewed().called("update-schedule").params["metadata"] == OURS
