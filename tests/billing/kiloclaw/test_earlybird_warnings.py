from datetime import timedelta

import pytest

from bursar.billing.account import Account, Profile
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.enforcement import Circumstances, enforce
from bursar.billing.kiloclaw.mail import warns_too_late
from bursar.billing.kiloclaw.outcomes import mail_still_wanted
from bursar.billing.kiloclaw.rows import MailKey, Subscription, hosting_of
from bursar.billing.steps import StepKind
from bursar.billing.values import replace
from tests.billing.kiloclaw.making import CATALOGUE, DAY, HOUR, NOW, SECOND, a_paid_row, a_trial, an_account

END = CATALOGUE.kiloclaw.earlybird.access_until
CANCELED = a_paid_row(status="canceled", current_period_end=END + 90 * DAY)


def an_earlybird(row: Subscription | None = None) -> Account:
    account = an_account(row)
    return account.having(replace(hosting_of(account), earlybird_payment_id="pi_1"))


def run(account: Account, left: timedelta) -> Decision:
    return enforce(account, Circumstances(CATALOGUE, END - left), only={"earlybird_warning"})


def mails_of(decision: Decision) -> list[str]:
    return [step.payload["email_type"] for step in decision.steps if step.kind is StepKind.SEND_MAIL]


@pytest.mark.parametrize(
    ("left", "mails"),
    [
        (14 * DAY + SECOND, []),
        (14 * DAY, ["claw_earlybird_14d"]),
        (DAY + SECOND, ["claw_earlybird_14d"]),
        (DAY, ["claw_earlybird_1d"]),
        (SECOND, ["claw_earlybird_1d"]),
        (0 * DAY, []),
        (-HOUR, []),
    ],
)
def test_kc_76_earlybird_warnings(left: timedelta, mails: list[str]) -> None:
    assert mails_of(run(an_earlybird(), left)) == mails


def test_kc_76_the_mail_says_when_access_ends() -> None:
    (step,) = run(an_earlybird(), DAY).steps
    assert step.payload["instants"] == {"earlybird_ends_at": END.isoformat()}


def test_kc_76_each_warning_comes_once_and_the_last_one_after_the_earlier() -> None:
    warned = run(an_earlybird(), 10 * DAY).account
    assert mails_of(run(warned, 9 * DAY)) == []
    assert mails_of(run(warned, HOUR)) == ["claw_earlybird_1d"]


@pytest.mark.parametrize("row", [a_trial(trial_ends_at=END + DAY), a_paid_row()])
def test_kc_76_who_has_an_active_or_trialing_row_is_not_warned(row: Subscription) -> None:
    assert mails_of(run(an_earlybird(row), DAY)) == []


def test_kc_76_who_has_an_ended_row_is_warned() -> None:
    assert mails_of(run(an_earlybird(CANCELED), DAY)) == ["claw_earlybird_1d"]


def test_kc_76_who_bought_nothing_is_not_warned() -> None:
    assert mails_of(run(an_account(), DAY)) == []


def test_kc_76_at_the_end_nothing_is_stopped_or_destroyed() -> None:
    account = an_earlybird()
    assert enforce(account, Circumstances(CATALOGUE, END + 100 * DAY)).account is account


@pytest.mark.parametrize(("row", "wanted"), [(None, True), (CANCELED, True), (a_paid_row(), False)])
def test_kc_88_a_warning_that_waited_is_sent_only_while_earlybird_is_the_only_cover(
    row: Subscription | None,
    wanted: bool,  # noqa: FBT001 - a case of the table
) -> None:
    mail = MailKey("claw_earlybird_14d")
    assert mail_still_wanted(an_earlybird(row), mail) is wanted
    assert not mail_still_wanted(an_account(row, profile=Profile("ada", deleted_at=NOW)), mail)


def test_kc_76_the_earlier_warning_is_not_sent_after_the_later_one() -> None:
    warned = run(an_earlybird(), DAY).account

    assert mail_still_wanted(warned, MailKey("claw_earlybird_1d"))
    assert not mail_still_wanted(warned, MailKey("claw_earlybird_14d"))


def test_kc_88_nobody_is_warned_of_an_end_that_is_past() -> None:
    [step] = run(an_earlybird(), 3 * DAY).steps

    assert not warns_too_late(step.payload, END - SECOND)
    assert warns_too_late(step.payload, END)
