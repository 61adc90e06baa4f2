import pytest

from bursar.billing.account import Profile
from bursar.billing.kiloclaw.mail import cycle_of
from bursar.billing.kiloclaw.outcomes import instance_brought_about, mail_settled, mail_still_wanted
from bursar.billing.kiloclaw.rows import MailKey, Subscription, hosting_of
from bursar.billing.values import replace
from tests.billing.kiloclaw.making import (
    DAY,
    NOW,
    a_paid_row,
    a_trial,
    an_account,
    an_instance,
    with_instance_row,
)

SUSPENDED = {"status": "canceled", "suspended_at": NOW - 7 * DAY, "destruction_deadline": NOW - DAY}
DOOMED = an_instance(desired_state="destroyed", generation=3, done_generation=2, destroying_since=NOW - DAY)


def test_kc_73_only_a_destruction_that_is_done_clears_the_deadline_and_is_told() -> None:
    decision = instance_brought_about(with_instance_row(a_paid_row(**SUSPENDED), DOOMED), "inst-1", 3, NOW)

    hosting = hosting_of(decision.account)
    assert hosting.instances[0].destroyed_at == NOW
    assert hosting.subscription is not None
    assert hosting.subscription.destruction_deadline is None
    assert [step.payload["email_type"] for step in decision.steps] == ["claw_instance_destroyed"]
    assert [key.cycle for key in hosting.mails] == [cycle_of(NOW - 7 * DAY)]


def test_kc_73_a_destroyed_instance_of_a_user_who_provisioned_anew_touches_the_row_no_more() -> None:
    account = an_account(a_paid_row(instance_id="inst-2"), DOOMED, an_instance(id="inst-2"))

    decision = instance_brought_about(account, "inst-1", 3, NOW)

    assert hosting_of(decision.account).subscription == a_paid_row(instance_id="inst-2")
    assert decision.steps == ()


@pytest.mark.parametrize("generation", [1, 2])
def test_kc_91_the_answer_to_an_older_generation_counts_for_nothing(generation: int) -> None:
    account = with_instance_row(a_paid_row(**SUSPENDED), DOOMED)

    assert instance_brought_about(account, "inst-1", generation, NOW).account is account


def test_kc_91_a_stop_that_was_overtaken_by_a_destruction_is_not_the_destruction() -> None:
    overtaken = replace(DOOMED, done_generation=1)

    decision = instance_brought_about(with_instance_row(a_paid_row(**SUSPENDED), overtaken), "inst-1", 2, NOW)

    assert hosting_of(decision.account).instances[0].destroyed_at is None


def test_kc_87_the_log_learns_how_a_mail_went() -> None:
    mail = MailKey("claw_trial_5d")

    assert hosting_of(mail_settled(an_account(a_trial()), mail, "sent").account).mails[mail] == "sent"


@pytest.mark.parametrize(
    ("mail", "row", "wanted"),
    [
        (MailKey("claw_trial_5d"), a_trial(), True),
        (MailKey("claw_trial_5d"), a_paid_row(), False),
        (MailKey("claw_suspended_payment", cycle_of(NOW - 7 * DAY)), a_paid_row(**SUSPENDED), True),
        (MailKey("claw_suspended_payment", cycle_of(NOW)), a_paid_row(**SUSPENDED), False),
        (MailKey("claw_suspended_payment", cycle_of(NOW)), a_paid_row(), False),
        (MailKey("claw_instance_destroyed", cycle_of(NOW)), a_paid_row(), True),
        (MailKey("claw_earlybird_14d"), None, True),
    ],
)
def test_kc_88_a_mail_is_sent_only_while_it_is_true(mail: MailKey, row: Subscription | None, wanted: bool) -> None:  # noqa: FBT001 - a table's column
    assert mail_still_wanted(an_account(row), mail) is wanted


def test_kc_88_the_earlier_trial_warning_is_not_sent_after_the_later_one() -> None:
    account = an_account(a_trial())
    warned = account.having(replace(hosting_of(account), mails={MailKey("claw_trial_1d"): "sent"}))

    assert mail_still_wanted(account, MailKey("claw_trial_5d"))
    assert not mail_still_wanted(warned, MailKey("claw_trial_5d"))


def test_kc_88_nobody_is_warned_of_a_destruction_that_is_over() -> None:
    warning = MailKey("claw_destruction_warning", cycle_of(NOW - 7 * DAY))
    destroyed = replace(DOOMED, destroyed_at=NOW)

    assert mail_still_wanted(with_instance_row(a_paid_row(**SUSPENDED)), warning)
    assert not mail_still_wanted(with_instance_row(a_paid_row(**SUSPENDED), destroyed), warning)
    assert not mail_still_wanted(with_instance_row(a_paid_row(**SUSPENDED | {"destruction_deadline": None})), warning)


def test_kc_88_a_deleted_user_gets_no_mail() -> None:
    account = an_account(a_trial(), profile=Profile("ada", deleted_at=NOW))

    assert not mail_still_wanted(account, MailKey("claw_trial_5d"))
