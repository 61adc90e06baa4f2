"""Sending a mail (KC-86…KC-88): at most once, since a mail provider's door knows no repetition."""

import asyncio
from typing import assert_never

from bursar.billing.account import Account, Profile
from bursar.billing.errors import Retryable, describe
from bursar.billing.kiloclaw.mail import warns_too_late
from bursar.billing.kiloclaw.outcomes import mail_still_wanted
from bursar.billing.kiloclaw.rows import hosting_of
from bursar.billing.steps import StepKind, StepState
from bursar.db.items import Item
from bursar.handlers.steps import WantedMail, mail_outcome
from bursar.service.gateways.mail import MailGateway, OutgoingMail, SendOutcome, SendResult
from bursar.service.mail.render import MailContext, render
from bursar.service.steps.bounds import STEPS
from bursar.service.steps.jobs import BeginCall, StepJob

# What a mail may say of the row, besides the instants that its decision gave it.
OF_THE_ROW = ("trial_ends_at", "current_period_end", "past_due_since", "destruction_deadline")


class MailSender:
    """Looks whether the mail is still true, notes that it is handed over, hands it over."""

    kind = StepKind.SEND_MAIL

    def __init__(self, gateway: MailGateway, app_url: str) -> None:
        self._gateway = gateway
        self._app_url = app_url

    async def attempt(self, job: StepJob, begin_call: BeginCall) -> Item:
        """The outcome. Raises `Retryable` for what is certainly not sent, `Permanent` for what cannot be.

        A mail whose sending was cut off by a crash is shown as unknown and not sent a second time (KC-86, KC-87).
        """
        wanted = WantedMail.of(job.step.payload)
        profile = job.account.part(Profile)
        if job.step.calling:
            return mail_outcome(job.step, wanted.mail, "unknown", StepState.FAILED, "cut off while it was handed over")
        is_late = warns_too_late(job.step.payload, job.situation.now)
        if is_late or not mail_still_wanted(job.account, wanted.mail):
            return mail_outcome(job.step, wanted.mail, "dropped", StepState.DROPPED)
        if not profile.email:
            return mail_outcome(job.step, wanted.mail, "skipped", StepState.SKIPPED, "no address")
        outgoing = self._compose(job, wanted, profile.email)
        await begin_call()
        return _outcome(job, wanted, await self._send(outgoing))

    async def _send(self, outgoing: OutgoingMail) -> SendResult:
        try:
            async with asyncio.timeout(STEPS[self.kind].timeout_seconds):
                return await self._gateway.send(outgoing)
        except TimeoutError:
            return SendResult(SendOutcome.UNKNOWN, "time-out")
        except Exception as error:  # noqa: BLE001 - a bug while handing over: it may be out, so not a second time
            return SendResult(SendOutcome.UNKNOWN, describe(error))

    def _compose(self, job: StepJob, wanted: WantedMail, recipient: str) -> OutgoingMail:
        rendered = render(wanted.mail.email_type, _context(job.account, wanted, self._app_url))
        return OutgoingMail(
            key=job.step.key,
            mail_type=wanted.mail.email_type,
            subject=rendered.subject,
            html=rendered.html,
            text=rendered.text,
            recipient=recipient,
            dated_at=job.situation.now,
        )


def _context(account: Account, wanted: WantedMail, app_url: str) -> MailContext:
    row = hosting_of(account).subscription
    instants = {name: wanted.instants.get(name) or (getattr(row, name) if row else None) for name in OF_THE_ROW}
    earlybird_ends_at = wanted.instants.get("earlybird_ends_at")
    return MailContext(app_url, account.part(Profile).name, **instants, earlybird_ends_at=earlybird_ends_at)


def _outcome(job: StepJob, wanted: WantedMail, result: SendResult) -> Item:
    match result.outcome:
        case SendOutcome.SENT:
            return mail_outcome(job.step, wanted.mail, "sent", StepState.DONE)
        case SendOutcome.REJECTED:
            return mail_outcome(job.step, wanted.mail, "rejected", StepState.FAILED, result.error)
        case SendOutcome.UNKNOWN:
            return mail_outcome(job.step, wanted.mail, "unknown", StepState.FAILED, result.error)
        case SendOutcome.NOT_CONFIGURED:
            return mail_outcome(job.step, wanted.mail, "skipped", StepState.SKIPPED, "no provider is configured")
        case SendOutcome.RETRY:
            wish = result.retry_after_seconds
            raise Retryable(f"the mail was refused for now ({result.error})", retry_after_seconds=wish)
        case _:
            assert_never(result.outcome)
