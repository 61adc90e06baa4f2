"""Mail: one protocol, and what an attempt to send came to (KC-86…KC-88)."""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from enum import StrEnum
from typing import Protocol

from bursar.billing.errors import Permanent
from bursar.billing.values import Value


class SendOutcome(StrEnum):
    """What an attempt to send came to."""

    SENT = "sent"
    REJECTED = "rejected"  # for good: kept, never retried (KC-88)
    RETRY = "retry"  # certainly not sent
    UNKNOWN = "unknown"  # handed over, no answer: may have been sent (KC-87)
    NOT_CONFIGURED = "not_configured"


class SendResult(Value):
    """The outcome; `error` is a class such as `smtp_451`, never the server's text, which repeats addresses (MS-14)."""

    outcome: SendOutcome
    error: str | None = None
    retry_after_seconds: float | None = None  # the other side's wish, with `RETRY`


@dataclass(frozen=True, slots=True)
class OutgoingMail:
    """One mail to one person. `key` is its step's: the same key makes the same Message-ID."""

    key: str
    mail_type: str
    subject: str
    html: str = field(repr=False)
    text: str = field(repr=False)
    recipient: str = field(repr=False)
    dated_at: datetime


class MailGateway(Protocol):
    """Sends one mail once; never raises for what the other side does."""

    async def send(self, message: OutgoingMail) -> SendResult: ...


class NoMail:
    """No provider is configured: mails are recorded as skipped (KC-88)."""

    async def send(self, message: OutgoingMail) -> SendResult:  # noqa: ARG002 - the protocol's signature
        return SendResult(SendOutcome.NOT_CONFIGURED)


class MalformedRecipient(Permanent):
    """The address cannot stand in a mail. The address itself is not told."""


def message_id(key: str, domain: str) -> str:
    """The Message-ID of a step's mail: the same for every attempt, so that a provider can tell a repetition."""
    return f"<{hashlib.sha256(key.encode()).hexdigest()[:32]}@{domain}>"


def sender_domain(sender: str) -> str:
    """The domain of `name <local@domain>`. Raises `ValueError` where there is none."""
    _, domain = _parts(parseaddr(sender)[1])
    return domain


def compose(mail: OutgoingMail, sender: str) -> EmailMessage:
    """Build the MIME message: text and HTML alternatives in seven bits. Raises `MalformedRecipient`."""
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = recipient_address(mail.recipient)
    message["Subject"] = mail.subject
    message["Date"] = format_datetime(mail.dated_at)
    message["Message-ID"] = message_id(mail.key, sender_domain(sender))
    message["Auto-Submitted"] = "auto-generated"
    message["X-Bursar-Mail-Type"] = mail.mail_type
    message.set_content(mail.text, cte="quoted-printable")
    message.add_alternative(mail.html, subtype="html", cte="quoted-printable")
    return message


def recipient_address(recipient: str) -> Address:
    """Exactly one address in ASCII, its domain as IDNA. Raises `MalformedRecipient`, which does not repeat it."""
    try:
        local, domain = _parts(recipient)
        ascii_domain = domain.encode("idna").decode("ascii")
        return Address(addr_spec=f"{local.encode('ascii').decode('ascii')}@{ascii_domain}")
    except (ValueError, IndexError, HeaderParseError):
        malformed = MalformedRecipient("the recipient's address is malformed")
    raise malformed


def _parts(address: str) -> tuple[str, str]:
    local, at, domain = address.strip().rpartition("@")
    if not (local and at and domain) or any(character.isspace() for character in local + domain):
        raise ValueError("an address has the form local@domain")
    return local, domain
