"""The mails of hosted instances (KC-85…KC-88): which there are, and deciding that one shall be sent."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from bursar.billing.account import Account, user_id_of
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.rows import MailKey, hosting_of
from bursar.billing.steps import Step, StepKind
from bursar.billing.values import replace


class MailType(StrEnum):
    """KC-85."""

    TRIAL_5D = "claw_trial_5d"
    TRIAL_1D = "claw_trial_1d"
    SUSPENDED_TRIAL = "claw_suspended_trial"
    SUSPENDED_SUBSCRIPTION = "claw_suspended_subscription"
    SUSPENDED_PAYMENT = "claw_suspended_payment"
    DESTRUCTION_WARNING = "claw_destruction_warning"
    INSTANCE_DESTROYED = "claw_instance_destroyed"
    EARLYBIRD_14D = "claw_earlybird_14d"
    EARLYBIRD_1D = "claw_earlybird_1d"
    CREDIT_RENEWAL_FAILED = "claw_credit_renewal_failed"  # CR-39


# The instant that a warning is of, by its name in the step: once it is past, nobody is warned any more.
WARNS_OF = MappingProxyType[str, str](
    {
        MailType.TRIAL_5D: "trial_ends_at",
        MailType.TRIAL_1D: "trial_ends_at",
        MailType.DESTRUCTION_WARNING: "destruction_deadline",
        MailType.EARLYBIRD_14D: "earlybird_ends_at",
        MailType.EARLYBIRD_1D: "earlybird_ends_at",
    }
)
# A warning that the later one takes the place of (KC-75, KC-76).
OVERTAKEN_BY = MappingProxyType[str, MailKey](
    {MailType.TRIAL_5D: MailKey(MailType.TRIAL_1D), MailType.EARLYBIRD_14D: MailKey(MailType.EARLYBIRD_1D)}
)
PENDING = "pending"


def cycle_of(instant: datetime) -> str:
    """The cycle of a mail that may come again in a later suspension (KC-3)."""
    return instant.isoformat()


def mail_step_key(user_id: str, mail: MailKey) -> str:
    """The key of the step that sends a mail: unique per user, type and cycle (KC-86)."""
    return f"mail:{user_id}:{mail.email_type}:{mail.cycle}"


def send_once(account: Account, mail: MailKey, instants: Mapping[str, datetime | None]) -> Decision:
    """Decide to send a mail unless the log has it: the log row and the step are written together (KC-86, KC-87)."""
    hosting = hosting_of(account)
    user_id = user_id_of(account.key)
    if mail in hosting.mails or user_id is None:
        return Decision(account, counts={"mails_skipped": 1})
    logged = replace(hosting, mails=MappingProxyType({**hosting.mails, mail: PENDING}))
    payload = {
        "email_type": mail.email_type,
        "cycle": mail.cycle,
        "instants": {name: instant.isoformat() for name, instant in instants.items() if instant},
    }
    step = Step(StepKind.SEND_MAIL, mail_step_key(user_id, mail), payload)
    return Decision(account.having(logged), (step,), counts={"mails_sent": 1})


def warns_too_late(payload: Mapping[str, Any], now: datetime) -> bool:
    """Whether the step's mail warns of what is past: one that waited for its address or provider (KC-88)."""
    warned_of = payload.get("instants", {}).get(WARNS_OF.get(payload["email_type"], ""))
    return warned_of is not None and datetime.fromisoformat(warned_of) <= now


def with_mail_state(account: Account, mail: MailKey, state: str) -> Account:
    """The account with the log's word on how a mail went."""
    hosting = hosting_of(account)
    return account.having(replace(hosting, mails=MappingProxyType({**hosting.mails, mail: state})))
