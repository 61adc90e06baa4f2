from datetime import timedelta

from bursar.billing.account import Profile
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.rows import Hosting, hosting_of
from bursar.billing.steps import StepKind
from bursar.billing.values import replace
from bursar.db import steps
from bursar.service.gateways.mail import SendOutcome, SendResult, message_id
from bursar.service.steps.bounds import LEASE, STEPS
from tests.billing.kiloclaw.making import DAY, NOW, a_paid_row, a_trial
from tests.db.deciding import an_item
from tests.service.steps.acting import Acting, acting, having, suspended_trial

SUSPENDED = "claw_suspended_trial"


async def test_kc_87_a_mail_is_sent_as_a_step_of_the_suspension(database_url: str) -> None:
    async with acting(database_url) as worker:
        await suspended_trial(worker)
        assert await worker.mails() == [(SUSPENDED, "pending")]  # KC-86: logged before it is sent

        await worker.do_mails()

        assert [(one.recipient, one.mail_type) for one in worker.mail.sent] == [("ada@example.com", SUSPENDED)]
        assert await worker.mails() == [(SUSPENDED, "sent")]
        assert await worker.steps() == [("send_mail", "done", 1)]


async def test_kc_86_two_runners_at_once_send_a_mail_once(database_url: str) -> None:
    async with acting(database_url) as worker:
        await suspended_trial(worker)
        other = Acting(worker.decider, worker.clock, worker.mail)

        async def second_runner() -> None:
            assert await other.do_mails() == 0

        worker.mail.meanwhile = second_runner
        await worker.do_mails()

        assert len(worker.mail.sent) == 1


async def test_kc_87_a_refused_send_is_tried_again_with_the_same_message_id(database_url: str) -> None:
    async with acting(database_url) as worker:
        await suspended_trial(worker)
        worker.mail.results = [SendResult(SendOutcome.RETRY, "smtp_451")]
        await worker.do_mails()
        assert await worker.do_mails() == 0  # not before its instant
        worker.clock.real_now += timedelta(minutes=2)
        await worker.do_mails()

        keys = [message_id(one.key, "example.com") for one in worker.mail.sent]
        assert len(keys) == 2
        assert len(set(keys)) == 1
        assert await worker.mails() == [(SUSPENDED, "sent")]


async def test_kc_87_a_refused_send_waits_as_long_as_the_provider_wishes(database_url: str) -> None:
    async with acting(database_url) as worker:
        await suspended_trial(worker)
        worker.mail.results = [SendResult(SendOutcome.RETRY, "http_429", 1_800)]
        await worker.do_mails()
        worker.clock.real_now += timedelta(seconds=1_799)
        assert await worker.do_mails() == 0
        worker.clock.real_now += timedelta(seconds=1)
        assert await worker.do_mails() == 1
        assert await worker.mails() == [(SUSPENDED, "sent")]


async def test_kc_87_a_mail_that_is_refused_to_the_end_is_an_operators(database_url: str) -> None:
    async with acting(database_url) as worker:
        await suspended_trial(worker)
        attempts = STEPS[StepKind.SEND_MAIL].attempts
        began = worker.clock.real_now
        worker.mail.results = [SendResult(SendOutcome.RETRY, "smtp_451")] * attempts
        for _ in range(attempts):
            assert await worker.do_mails() == 1
            due = await worker.fetch("SELECT due_at FROM steps")
            worker.clock.real_now = max(worker.clock.real_now, due[0][0])

        assert await worker.steps() == [("send_mail", "failed", attempts)]
        assert await worker.mails() == [(SUSPENDED, "failed")]
        assert timedelta(hours=12) < worker.clock.real_now - began < timedelta(hours=24)


async def test_kc_87_an_unknown_outcome_is_shown_and_not_sent_a_second_time(database_url: str) -> None:
    async with acting(database_url) as worker:
        await suspended_trial(worker)
        worker.mail.results = [SendResult(SendOutcome.UNKNOWN, "TimeoutError")]
        await worker.do_mails()
        worker.clock.real_now += timedelta(days=1)

        assert await worker.do_mails() == 0
        assert await worker.mails() == [(SUSPENDED, "unknown")]
        assert await worker.fetch("SELECT state, error FROM steps") == [("failed", "TimeoutError")]


async def test_kc_87_a_crash_before_the_hand_over_sends_the_mail_later(database_url: str) -> None:
    async with acting(database_url) as worker:
        await suspended_trial(worker)
        assert len(await worker.mail_crew().claim(16)) == 1  # and dies here
        assert await worker.do_mails() == 0
        worker.clock.real_now += LEASE
        await worker.do_mails()

        assert await worker.mails() == [(SUSPENDED, "sent")]
        assert len(worker.mail.sent) == 1


async def test_kc_86_a_crash_in_the_middle_of_the_hand_over_sends_no_second_mail(database_url: str) -> None:
    async with acting(database_url) as worker:
        await suspended_trial(worker)
        crew = worker.mail_crew()
        (job,) = await crew.claim(16)
        await crew._begin_call(job)  # and dies here
        worker.clock.real_now += LEASE
        await worker.do_mails()

        assert worker.mail.sent == []
        assert await worker.mails() == [(SUSPENDED, "unknown")]


async def test_kc_86_a_runner_that_lost_its_lease_does_not_call(database_url: str) -> None:
    async with acting(database_url) as worker:
        await suspended_trial(worker)
        frozen = worker.mail_crew()
        (job,) = await frozen.claim(16)
        worker.clock.real_now += LEASE
        await worker.do_mails()
        await frozen.carry_out(job)  # thawed

        assert len(worker.mail.sent) == 1
        assert await worker.mails() == [(SUSPENDED, "sent")]


async def test_kc_88_without_a_provider_it_is_skipped_and_sent_once_there_is_one(database_url: str) -> None:
    async with acting(database_url) as worker:
        await suspended_trial(worker)
        worker.mail.results = [SendResult(SendOutcome.NOT_CONFIGURED)]
        await worker.do_mails()
        assert await worker.mails() == [(SUSPENDED, "skipped")]
        assert await worker.steps() == [("send_mail", "skipped", 1)]

        async with worker.decider.pool.acquire() as connection:
            later = worker.clock.real_now + LEASE
            assert await steps.revive_skipped(connection, later, worker.clock.real_now, 10) == 1
        await worker.do_mails()
        assert await worker.mails() == [(SUSPENDED, "sent")]


async def test_kc_88_without_an_address_it_is_skipped(database_url: str) -> None:
    async with acting(database_url) as worker:
        await suspended_trial(worker, email=None)
        await worker.do_mails()

        assert worker.mail.sent == []
        assert await worker.mails() == [(SUSPENDED, "skipped")]


async def test_kc_88_a_rejected_address_is_kept_and_never_tried_again(database_url: str) -> None:
    async with acting(database_url) as worker:
        await suspended_trial(worker)
        worker.mail.results = [SendResult(SendOutcome.REJECTED, "smtp_550")]
        await worker.do_mails()
        worker.clock.real_now += timedelta(days=1)

        assert await worker.do_mails() == 0
        assert await worker.mails() == [(SUSPENDED, "rejected")]


async def test_kc_88_a_deleted_user_gets_no_mail(database_url: str) -> None:
    async with acting(database_url) as worker:
        await suspended_trial(worker)
        gone = an_item(
            "gone", decide=lambda account: Decision(account.having(replace(account.part(Profile), deleted_at=NOW)))
        )
        await worker.decider.decide([gone])
        await worker.do_mails()

        assert worker.mail.sent == []
        assert await worker.mails() == [(SUSPENDED, "dropped")]
        assert await worker.steps() == [("send_mail", "dropped", 1)]


async def test_kc_88_a_mail_that_is_no_longer_true_is_dropped(database_url: str) -> None:
    async with acting(database_url) as worker:
        await suspended_trial(worker)
        paid = an_item("paid", decide=lambda account: Decision(account.having(_paid(hosting_of(account)))))
        await worker.decider.decide([paid])
        await worker.do_mails()

        assert worker.mail.sent == []
        assert await worker.mails() == [(SUSPENDED, "dropped")]


async def test_kc_88_a_warning_that_waited_until_its_instant_was_past_is_dropped(database_url: str) -> None:
    """The sweep that ends the trial may come later than the mail."""
    async with acting(database_url) as worker:
        await worker.decider.decide([having(a_trial())])
        worker.clock.now = NOW + 29 * DAY
        await worker.sweep("trial_warning")
        worker.clock.now = NOW + 31 * DAY
        await worker.do_mails()

        assert worker.mail.sent == []
        assert await worker.mails() == [("claw_trial_1d", "dropped")]


def _paid(hosting: Hosting) -> Hosting:
    row = hosting.subscription
    assert row is not None
    return replace(hosting, subscription=a_paid_row(id=row.id, instance_id=row.instance_id, version=row.version + 1))


async def test_kc_78_a_mail_that_cannot_be_written_stops_no_other(database_url: str) -> None:
    async with acting(database_url) as worker:
        await suspended_trial(worker, "ada")
        await worker.fetch("UPDATE steps SET payload = '{}'")
        worker.clock.now = NOW
        await suspended_trial(worker, "eve")
        await worker.do_mails()

        assert [one.recipient for one in worker.mail.sent] == ["eve@example.com"]
        assert await worker.steps() == [("send_mail", "due", 1), ("send_mail", "done", 1)]
