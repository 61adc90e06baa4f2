"""Renewals short of money as decisions: topped up where that may be, else past due (CR-38…CR-40)."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pytest

from bursar.billing.account import Account, Profile
from bursar.billing.catalogue import TopUpTerms
from bursar.billing.credits.arrivals import AUTO_TOP_UP, still_wanted, then_renewed, topped_up
from bursar.billing.credits.auto_top_up import AutoTopUp, amount_cents
from bursar.billing.credits.deposits import top_up_deposited
from bursar.billing.credits.ledger import Credits
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.enforcement import Circumstances, enforce
from bursar.billing.kiloclaw.row_changes import with_row
from bursar.billing.kiloclaw.rows import Hosting, MailKey, Subscription, hosting_of
from bursar.billing.operations import UNWANTED, Ended, Failure, OperationFacts
from bursar.billing.steps import StepKind
from bursar.billing.values import replace
from tests.billing.credits.crediting import DOLLAR, DUE, a_credit_row, balance, followed, with_credits
from tests.billing.kiloclaw.making import CATALOGUE, DAY, HOUR

TOPPING = Profile("ada", stripe_customer_id="cus_1", auto_top_up=True)
KEY = f"ada:{DUE.isoformat()}"
ASKED = AutoTopUp(key=KEY, user_id="ada", customer_id="cus_1", amount_cents=2000, boundary=DUE)
FACTS = OperationFacts(CATALOGUE, DUE + HOUR, "step:1")
PAID = Ended({"payment_id": "pi_1", "amount_cents": 2000, "status": "succeeded"})
DECLINED = Ended(None, Failure("payment_failed", "declined", 402))
IMPOSSIBLE = Ended(None, Failure("no_payment_method", "no card", 402))
FAILED_MAIL = MailKey("claw_credit_renewal_failed", (DUE + HOUR).isoformat())


def account(dollars: int = 10, profile: Profile = TOPPING, **changes: Any) -> Account:
    return with_credits(a_credit_row(**changes), dollars=dollars).having(profile)


def due(before: Account, now: datetime = DUE) -> Decision:
    return enforce(before, Circumstances(CATALOGUE, now, cause="tick"), only={"credit_renewal"})


def row_of(decided: Decision) -> Subscription:
    row = hosting_of(decided.account).subscription
    assert row
    return row


def kinds(decided: Decision) -> Iterable[StepKind]:
    return [step.kind for step in decided.steps]


def test_cr_38_the_marker_is_written_with_the_step_and_nothing_else_changes() -> None:
    before = account()
    decided = due(before)
    (step,) = decided.steps

    assert row_of(decided) == replace(a_credit_row(), top_up_boundary=DUE, version=2)
    assert (step.kind, step.key) == (StepKind.TOP_UP, f"top-up:{KEY}")
    assert AUTO_TOP_UP.asked.model_validate(step.payload["asked"]) == ASKED
    assert decided.account.part(Credits) == before.part(Credits)


@pytest.mark.parametrize(
    ("balance_dollars", "cents"), [(24, 2000), (5, 2000), (4, 5000), (0, 5000), (-40, 10_000), (-90, 11_500)]
)
def test_cr_38_whatever_the_balance_is_it_covers_the_shortfall(balance_dollars: int, cents: int) -> None:
    before = account(0)
    decided = due(before.having(Credits(acquired_microdollars=balance_dollars * DOLLAR)))
    assert decided.steps[0].payload["asked"]["amount_cents"] == cents


def test_cr_38_a_part_of_a_cent_counts_as_one() -> None:
    assert amount_cents(20 * DOLLAR, TopUpTerms()) == 2000
    assert amount_cents(20 * DOLLAR + 1, TopUpTerms()) == 5000


@pytest.mark.parametrize(
    ("profile", "changes"),
    [
        (replace(TOPPING, auto_top_up=False), {}),
        (replace(TOPPING, stripe_customer_id=None), {}),
        (TOPPING, {"top_up_boundary": DUE}),
    ],
    ids=["switched off", "impossible", "tried already"],
)
def test_cr_39_otherwise_it_is_past_due_with_its_mail(profile: Profile, changes: dict[str, Any]) -> None:
    decided = due(account(profile=profile, **changes))
    assert (row_of(decided).status, row_of(decided).past_due_since) == ("past_due", DUE)
    assert kinds(decided) == [StepKind.SEND_MAIL]


def marked(**changes: Any) -> Account:
    return account(top_up_boundary=DUE, **changes)


def test_cr_40_the_payment_is_deposited_and_the_renewal_paid_in_one_decision() -> None:
    decided = followed(topped_up(marked(), ASKED, PAID, FACTS))

    assert balance(decided.account) == 10 + 20 - 25
    assert (row_of(decided).status, row_of(decided).top_up_boundary) == ("active", None)
    assert row_of(decided).current_period_start == DUE
    assert decided.steps == ()


def test_cr_40_cr_3_its_event_before_or_after_adds_nothing() -> None:
    deposited = top_up_deposited(marked(), "pi_1", 20 * DOLLAR, "evt_1")
    by_event = followed(then_renewed(deposited, CATALOGUE, DUE + HOUR, "evt_1"))
    both = followed(topped_up(by_event.account, ASKED, PAID, FACTS))
    assert both.account is by_event.account
    assert balance(both.account) == 5


@pytest.mark.parametrize(("ended", "still_on"), [(DECLINED, False), (IMPOSSIBLE, True)])
def test_cr_39_a_decline_switches_it_off_and_either_is_past_due(ended: Ended, still_on: bool) -> None:  # noqa: FBT001
    decided = followed(topped_up(marked(), ASKED, ended, FACTS))

    assert decided.account.part(Profile).auto_top_up is still_on
    assert (row_of(decided).status, row_of(decided).past_due_since) == ("past_due", DUE + HOUR)
    assert kinds(decided) == [StepKind.SEND_MAIL]
    assert FAILED_MAIL in hosting_of(decided.account).mails


def test_cr_39_a_past_due_row_keeps_its_first_instant_and_is_topped_up_once_it_may_be() -> None:
    decided = due(account(status="past_due", past_due_since=DUE - DAY), DUE + DAY)
    assert kinds(decided) == [StepKind.TOP_UP]
    assert (row_of(decided).status, row_of(decided).past_due_since) == ("past_due", DUE - DAY)
    recovered = followed(topped_up(decided.account, ASKED, PAID, FACTS))
    assert (row_of(recovered).status, row_of(recovered).past_due_since) == ("active", None)


def test_cr_38_a_payment_that_takes_days_changes_nothing_yet() -> None:
    before = marked()
    processing = Ended({"payment_id": "pi_1", "amount_cents": 2000, "status": "processing"})
    assert topped_up(before, ASKED, processing, FACTS).account is before


def test_cr_40_money_for_a_boundary_that_is_past_is_deposited_and_pays_nothing_yet() -> None:
    before = account(credit_renewal_at=DUE + 30 * DAY, current_period_end=DUE + 30 * DAY)
    decided = followed(topped_up(before, ASKED, PAID, FACTS))
    assert balance(decided.account) == 30
    assert row_of(decided) == hosting_of(before).subscription


def test_cr_40_the_marker_goes_when_the_row_is_canceled() -> None:
    before = marked()
    row = hosting_of(before).subscription
    assert row
    canceled = hosting_of(with_row(before, replace(row, status="canceled"))).subscription
    assert canceled
    assert canceled.top_up_boundary is None


def test_cr_40_a_top_up_whose_boundary_another_payment_renewed_pays_the_next_one() -> None:
    march = datetime(2026, 3, 31, 9, tzinfo=DUE.tzinfo)
    before = account(credit_renewal_at=march, current_period_end=march, status="past_due", past_due_since=march)
    late = replace(FACTS, now=march + DAY)
    assert row_of(followed(topped_up(before, ASKED, PAID, late))).current_period_start == march
    assert followed(topped_up(before, ASKED, DECLINED, late)).steps == ()


UNWANTED_END = Ended(None, UNWANTED)
OFF = replace(TOPPING, auto_top_up=False)
STOPPED = Credits(acquired_microdollars=10 * DOLLAR, charges_stopped=True)


@pytest.mark.parametrize(
    ("now_is", "wanted"),
    [
        (account(top_up_boundary=DUE), True),
        (account(top_up_boundary=DUE, status="past_due", past_due_since=DUE), True),
        (account(6, top_up_boundary=DUE), True),
        (account(top_up_boundary=DUE, profile=OFF), False),
        (account(top_up_boundary=DUE, profile=replace(TOPPING, stripe_customer_id="cus_2")), False),
        (account(), False),
        (account(top_up_boundary=DUE, cancel_at_period_end=True), False),
        (account(status="canceled"), False),
        (account(top_up_boundary=DUE, payment_source="stripe"), False),
        (account(top_up_boundary=DUE + 30 * DAY, credit_renewal_at=DUE + 30 * DAY), False),
        (account(25, top_up_boundary=DUE), False),
        (account(4, top_up_boundary=DUE), False),
        (account(top_up_boundary=DUE).having(STOPPED), False),
        (Account("user:ada", {Profile: Profile("ada"), Hosting: Hosting(), Credits: Credits()}), False),
    ],
    ids=[
        "as it was asked",
        "past due since",
        "short by more, which it still covers",
        "switched off",
        "another customer",
        "no marker",
        "set to cancel",
        "canceled",
        "paid through Stripe",
        "another boundary",
        "enough money",
        "short by more than it covers",
        "charges stopped",
        "nobody any more",
    ],
)
def test_cr_31_cr_38_it_is_wanted_while_the_renewal_would_ask_for_the_very_same(now_is: Account, wanted: bool) -> None:  # noqa: FBT001
    assert still_wanted(now_is, ASKED, FACTS) is wanted


def test_cr_38_one_that_was_not_tried_is_as_if_it_had_never_been_asked_for() -> None:
    again = followed(topped_up(marked(), ASKED, UNWANTED_END, FACTS))
    (step,) = again.steps
    assert (step.key, step.coalesced, row_of(again).top_up_boundary) == (f"top-up:{KEY}", True, DUE)

    off = followed(topped_up(marked(profile=OFF), ASKED, UNWANTED_END, FACTS))
    assert (row_of(off).status, row_of(off).top_up_boundary, kinds(off)) == ("past_due", None, [StepKind.SEND_MAIL])
    on_again = due(off.account.having(TOPPING), DUE + DAY)
    assert kinds(on_again) == [StepKind.TOP_UP]


def test_cr_31_one_whose_boundary_is_past_ends_as_stale_without_a_write() -> None:
    march = DUE + 31 * DAY
    before = account(credit_renewal_at=march, current_period_end=march, top_up_boundary=march)
    stale = topped_up(before, ASKED, UNWANTED_END, FACTS)
    assert (stale.account is before, stale.steps, stale.follow_ups, stale.counts) == (True, (), (), {"stale": 1})
