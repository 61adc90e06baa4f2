"""Renders a mail type to subject, HTML and plain text (KC-85, KC-89)."""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from bursar.billing.errors import Permanent
from bursar.billing.values import Value

MAX_NAME_CHARACTERS = 60


class MailTemplate(Value):
    """A template's name (its files are `name.html.j2` and `name.txt.j2`) and the mail's subject."""

    name: str
    subject: str


class MailContext(Value):
    """What a mail may say. Every instant is optional: a template leaves out the sentence that needs a missing one."""

    app_url: str
    name: str | None = None
    trial_ends_at: datetime | None = None
    current_period_end: datetime | None = None
    past_due_since: datetime | None = None
    destruction_deadline: datetime | None = None
    earlybird_ends_at: datetime | None = None

    @property
    def dashboard_url(self) -> str:
        """Where every call to action leads (KC-85)."""
        return f"{self.app_url.rstrip('/')}/claw"

    @property
    def greeting_name(self) -> str:
        """The name on one line and of bounded length; empty without one."""
        return " ".join((self.name or "").split())[:MAX_NAME_CHARACTERS].rstrip()


class Rendered(Value):
    """A mail's three parts."""

    subject: str
    html: str
    text: str


MAILS: Mapping[str, MailTemplate] = MappingProxyType(
    {
        "claw_trial_5d": MailTemplate("clawTrialEndingSoon", "Your KiloClaw Trial Ends in 5 Days"),
        "claw_trial_1d": MailTemplate("clawTrialExpiresTomorrow", "Your KiloClaw Trial Expires Tomorrow"),
        "claw_suspended_trial": MailTemplate("clawSuspendedTrial", "Your KiloClaw Trial Has Ended"),
        "claw_suspended_subscription": MailTemplate(
            "clawSuspendedSubscription", "Your KiloClaw Subscription Has Ended"
        ),
        "claw_suspended_payment": MailTemplate("clawSuspendedPayment", "Action Required: KiloClaw Payment Overdue"),
        "claw_destruction_warning": MailTemplate(
            "clawDestructionWarning", "Your KiloClaw Instance Will Be Deleted in 2 Days"
        ),
        "claw_instance_destroyed": MailTemplate("clawInstanceDestroyed", "Your KiloClaw Instance Has Been Deleted"),
        "claw_earlybird_14d": MailTemplate("clawEarlybirdEndingSoon", "Your KiloClaw Earlybird Access Ends Soon"),
        "claw_earlybird_1d": MailTemplate(
            "clawEarlybirdExpiresTomorrow", "Your KiloClaw Earlybird Access Expires Tomorrow"
        ),
        "claw_credit_renewal_failed": MailTemplate(
            "clawCreditRenewalFailed", "Action Required: Your KiloClaw Renewal Failed"
        ),
    }
)


def day(instant: datetime) -> str:
    """Write an instant's day in UTC, such as `1 July 2026`."""
    utc = instant.astimezone(UTC)
    return f"{utc.day} {utc:%B %Y}"


def clock_time(instant: datetime) -> str:
    """Write an instant's time of day in UTC, such as `14:05 UTC`."""
    return f"{instant.astimezone(UTC):%H:%M} UTC"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("bursar.service.mail"),
        autoescape=select_autoescape(enabled_extensions=("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"day": day, "clock_time": clock_time}
    return environment


_TEMPLATES = _environment()


def render(mail_type: str, context: MailContext) -> Rendered:
    """Render both forms. Raises `Permanent` for a type that has no template."""
    mail = MAILS.get(mail_type)
    if mail is None:
        raise Permanent(f"there is no mail of type {mail_type!r}")
    html, text = (
        _TEMPLATES.get_template(f"{mail.name}.{form}.j2").render(mail=context, subject=mail.subject)
        for form in ("html", "txt")
    )
    return Rendered(subject=mail.subject, html=html, text=text)
