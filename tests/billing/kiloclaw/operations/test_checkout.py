"""Checkout: who may, what is asked of Stripe, and what stays (KC-20…KC-23)."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from bursar.billing.account import Account, Profile
from bursar.billing.catalogue import Catalogue
from bursar.billing.errors import CallRefused, Refused
from bursar.billing.kiloclaw.operations.checkout import Checkout, WantedCheckout, apply, check_out, plan
from bursar.billing.kiloclaw.rows import hosting_of
from bursar.billing.operations import Ended, Failure
from bursar.billing.steps import StepKind
from bursar.billing.values import replace
from tests.billing.kiloclaw.making import CATALOGUE, DAY, HOUR, NOW, a_paid_row, a_trial, subscription_json
from tests.billing.kiloclaw.operations.driving import Driven, an_account, drive, facts, listed

WANTED = WantedCheckout("standard", "https://app.example.test/done", "https://app.example.test/claw")
ADA = Profile("ada", "ada@example.test", "Ada")
OURS = {"type": "kiloclaw"}
SESSION = {"id": "cs_1", "status": "open", "url": "https://checkout.example.test/cs_1", "metadata": OURS}
STANDING: Mapping[str, Any] = {
    "find-customer": listed(),
    "create-customer": {"id": "cus_new"},
    "list-open-sessions": listed(),
    "list-subscriptions": listed(),
    "create-session": SESSION,
}


def catalogue(billing_starts_at: datetime | None = None, coupon: str | None = None) -> Catalogue:
    changes = {"billing_starts_at": billing_starts_at, "earlybird_coupon_id": coupon}
    return CATALOGUE.model_copy(update={"prices": CATALOGUE.prices.model_copy(update=changes)})


def asked(
    account: Account | None = None, wanted: WantedCheckout = WANTED, terms: Catalogue = CATALOGUE, now: datetime = NOW
) -> Checkout:
    decision = check_out(account or an_account(profile=ADA), wanted, terms, now, "c1")
    return Checkout.model_validate(decision.steps[0].payload["asked"])


def checked_out(known: Checkout | None = None, **answers: Any) -> Driven:
    wanted = known or asked()
    named = {name.replace("_", "-"): answer for name, answer in answers.items()}
    return drive(lambda: plan(wanted), {**STANDING, **named})


def session_params(known: Checkout) -> Mapping[str, Any]:
    return checked_out(known).called("create-session").params


def an_earlybird() -> Account:
    account = an_account(profile=ADA)
    return account.having(replace(hosting_of(account), earlybird_payment_id="pi_1"))


@pytest.mark.parametrize("row", [None, a_trial(), a_trial(status="canceled"), a_paid_row(status="canceled")])
def test_kc_20_a_free_row_may_check_out(row: Any) -> None:
    decision = check_out(an_account(row, profile=ADA), WANTED, CATALOGUE, NOW, "c1")

    [step] = decision.steps
    assert (step.kind, step.key, step.payload["operation"]) == (
        StepKind.OPERATION,
        "operation:c1",
        "kiloclaw-checkout",
    )


@pytest.mark.parametrize("status", ["active", "past_due", "unpaid"])
def test_kc_20_a_subscribed_user_is_refused(status: Any) -> None:
    row = a_paid_row(status=status, past_due_since=None if status == "active" else NOW)
    with pytest.raises(Refused) as refused:
        check_out(an_account(row, profile=ADA), WANTED, CATALOGUE, NOW, "c1")
    assert refused.value.code == "already_subscribed"


@pytest.mark.parametrize("status", ["active", "trialing", "past_due", "unpaid", "paused", "unheard_of"])
def test_kc_20_an_unended_subscription_at_stripe_refuses(status: str) -> None:
    driven = checked_out(list_subscriptions=listed(subscription_json(status=status)))

    assert driven.failed_with == "already_subscribed"
    assert "create-session" not in driven.names


@pytest.mark.parametrize(
    "known", [{"status": "canceled"}, {"status": "incomplete_expired"}, {"metadata": {"type": "another"}}]
)
def test_kc_20_ended_and_foreign_subscriptions_do_not_refuse(known: Any) -> None:
    driven = checked_out(list_subscriptions=listed(subscription_json(**known)))
    assert driven.ended.result == {"url": SESSION["url"], "session_id": "cs_1"}


def test_kc_20_an_incomplete_subscription_is_canceled_first() -> None:
    incomplete = subscription_json(id="sub_inc", status="incomplete")
    for answer in (subscription_json(id="sub_inc", status="incomplete_expired"), CallRefused("resource_missing", "")):
        answers = {**STANDING, "list-subscriptions": listed(incomplete), "cancel:sub_inc": answer}
        driven = drive(lambda: plan(asked()), answers)
        assert driven.names[-2:] == ["cancel:sub_inc", "create-session"]
        assert driven.called("cancel:sub_inc").target == "sub_inc"


def test_kc_20_one_that_is_incomplete_beside_a_live_one_stays() -> None:
    both = listed(subscription_json(id="sub_inc", status="incomplete"), subscription_json())
    driven = checked_out(list_subscriptions=both)
    assert driven.failed_with == "already_subscribed"
    assert "cancel:sub_inc" not in driven.names


def test_kc_20_the_customer_is_created_once_under_the_users_own_key() -> None:
    driven = checked_out()
    created = driven.called("create-customer")

    assert created.idempotency_key == "customer:ada"
    assert created.params == {"email": "ada@example.test", "name": "Ada", "metadata": {"userId": "ada"}}
    assert driven.called("create-session").params["customer"] == "cus_new"


def test_kc_20_a_customer_that_is_ours_is_found_by_its_address() -> None:
    another = {"id": "cus_other", "metadata": {"userId": "grace"}}
    driven = checked_out(find_customer=listed(another, {"id": "cus_own", "metadata": {"userId": "ada"}}))

    assert "create-customer" not in driven.names
    assert driven.called("create-session").params["customer"] == "cus_own"


def test_kc_20_a_known_customer_is_used_and_one_of_a_former_subscription_too() -> None:
    told = an_account(profile=replace(ADA, stripe_customer_id="cus_told"))
    former = an_account(a_paid_row(status="canceled"), profile=ADA)
    for account, customer_id in ((told, "cus_told"), (former, "cus_1")):
        driven = checked_out(asked(account))
        assert driven.names[0] == "list-open-sessions"
        assert driven.called("create-session").params["customer"] == customer_id


def test_kc_20_without_an_address_the_customer_is_created_at_once() -> None:
    driven = checked_out(asked(an_account(profile=Profile("ada"))))
    assert driven.names[0] == "create-customer"


def test_kc_20_the_customer_is_kept_whether_or_not_it_succeeded() -> None:
    account, wanted = an_account(profile=ADA), asked()
    for driven in (checked_out(), checked_out(create_session=CallRefused("parameter_invalid", ""))):
        decision = apply(account, wanted, driven.ended, facts())
        assert decision.account.part(Profile).stripe_customer_id == "cus_new"


def test_kc_20_a_customer_that_was_told_meanwhile_wins() -> None:
    told = an_account(profile=replace(ADA, stripe_customer_id="cus_told"))
    assert apply(told, asked(), checked_out().ended, facts()).account is told


def test_kc_20_a_deleted_user_keeps_no_customer() -> None:
    deleted = an_account(profile=replace(ADA, deleted_at=NOW))
    assert apply(deleted, asked(), checked_out().ended, facts()).account is deleted


def test_kc_20_a_row_that_became_active_meanwhile_stays_as_it_is() -> None:
    account = an_account(a_paid_row(), profile=ADA)
    decision = apply(account, asked(), checked_out().ended, facts())
    assert hosting_of(decision.account).subscription == a_paid_row()


@pytest.mark.parametrize(
    ("plan_name", "price", "codes"), [("standard", "price_standard", [True]), ("commit", "price_commit", [])]
)
def test_kc_21_the_session_sells_the_plan(plan_name: Any, price: str, codes: list[bool]) -> None:
    params = session_params(asked(wanted=replace(WANTED, plan=plan_name, referral="ref-7")))
    metadata = {"type": "kiloclaw", "userId": "ada", "plan": plan_name, "funding": "direct"}

    assert params["mode"] == "subscription"
    assert params["line_items"] == [{"price": price, "quantity": 1}]
    assert params["metadata"] == metadata
    assert params["subscription_data"] == {"metadata": metadata}
    assert params["client_reference_id"] == "ref-7"
    assert [params[name] for name in params if name == "allow_promotion_codes"] == codes
    assert (params["success_url"], params["cancel_url"]) == (WANTED.success_url, WANTED.cancel_url)


def test_kc_21_the_funding_is_the_catalogues() -> None:
    checkout = CATALOGUE.kiloclaw.checkout.model_copy(update={"funding": "credits"})
    kiloclaw = CATALOGUE.kiloclaw.model_copy(update={"checkout": checkout})
    params = session_params(asked(terms=CATALOGUE.model_copy(update={"kiloclaw": kiloclaw})))
    assert params["subscription_data"]["metadata"]["funding"] == "credits"


@pytest.mark.parametrize(
    ("ahead", "trial"),
    [
        (30 * DAY, {"trial_end": int((NOW + 30 * DAY).timestamp())}),
        (48 * HOUR + timedelta(minutes=15), {"trial_end": int((NOW + 48.25 * HOUR).timestamp())}),
        (48 * HOUR, {"trial_period_days": 2}),
        (47 * HOUR, {"trial_period_days": 2}),
        (24 * HOUR + timedelta(seconds=1), {"trial_period_days": 2}),
        (timedelta(seconds=1), {"trial_period_days": 1}),
        (timedelta(0), {}),
        (-DAY, {}),
    ],
)
def test_kc_21_nothing_is_charged_before_the_billing_start(ahead: timedelta, trial: dict[str, int]) -> None:
    data = session_params(asked(terms=catalogue(NOW + ahead)))["subscription_data"]
    assert {name: value for name, value in data.items() if name != "metadata"} == trial


def test_kc_21_an_earlybird_user_has_the_coupon_instead_of_promotion_codes() -> None:
    params = session_params(asked(an_earlybird(), terms=catalogue(coupon="co_1")))
    assert params["discounts"] == [{"coupon": "co_1"}]
    assert "allow_promotion_codes" not in params


def test_kc_21_no_coupon_on_commit_nor_for_others_nor_unless_configured() -> None:
    commit = session_params(asked(an_earlybird(), replace(WANTED, plan="commit"), catalogue(coupon="co_1")))
    assert not commit.keys() & {"discounts", "allow_promotion_codes"}
    for known in (asked(terms=catalogue(coupon="co_1")), asked(an_earlybird())):
        params = session_params(known)
        assert "discounts" not in params
        assert params["allow_promotion_codes"]


def test_kc_22_older_sessions_of_ours_are_expired_first_and_a_refusal_is_ignored() -> None:
    sessions = listed(
        {"id": "cs_a", "metadata": OURS},
        {"id": "cs_b", "metadata": OURS},
        {"id": "cs_c", "metadata": {"type": "seats"}},
    )
    answers = {
        **STANDING,
        "list-open-sessions": sessions,
        "expire:cs_a": CallRefused("resource_missing", "completed meanwhile"),
        "expire:cs_b": {"id": "cs_b", "status": "expired"},
    }
    driven = drive(lambda: plan(asked()), answers)

    assert driven.names[2:] == [
        "list-open-sessions",
        "expire:cs_a",
        "expire:cs_b",
        "list-subscriptions",
        "create-session",
    ]
    assert driven.ended.result


def test_kc_22_the_calls_of_a_checkout_are_bounded() -> None:
    sessions = [{"id": f"cs_{number}", "metadata": OURS} for number in range(30)]
    ours = [subscription_json(id=f"sub_{number}", status="incomplete") for number in range(30)]
    answers = {
        **STANDING,
        "list-open-sessions": listed(*sessions),
        "list-subscriptions": listed(*ours),
        **{f"expire:{one['id']}": one for one in sessions},
        **{f"cancel:{one['id']}": one for one in ours},
    }
    driven = drive(lambda: plan(asked()), answers)
    assert driven.ended.result
    assert len(driven.calls) == 5 + 10 + 5


def test_kc_23_a_second_checkout_is_refused_while_the_first_is_under_way() -> None:
    first = check_out(an_account(profile=ADA), WANTED, CATALOGUE, NOW, "c1")
    with pytest.raises(Refused) as refused:
        check_out(first.account, WANTED, CATALOGUE, NOW, "c2")
    assert (refused.value.code, refused.value.status) == ("operation_in_progress", 409)


def test_kc_23_a_session_that_is_given_up_is_expired() -> None:
    undo = checked_out().called("create-session").undo
    assert undo
    assert undo.method == "checkout.sessions.expire"


def test_kc_20_a_failure_without_a_customer_changes_nothing() -> None:
    account = an_account(profile=ADA)
    decision = apply(account, asked(), Ended(None, Failure("stripe_refused", "", 502)), facts())
    assert (decision.account, decision.steps) == (account, ())
