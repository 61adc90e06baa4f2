"""Mail over Mailgun's API (`POST /v3/{domain}/messages`)."""

from dataclasses import dataclass, field
from urllib.parse import quote

import httpx

from bursar.service.gateways.http_mail import TOTAL_SECONDS, MailRequest, post_mail
from bursar.service.gateways.mail import (
    MalformedRecipient,
    OutgoingMail,
    SendOutcome,
    SendResult,
    message_id,
    recipient_address,
    sender_domain,
)


@dataclass(frozen=True, slots=True)
class MailgunSettings:
    """`domain` is the sending domain at Mailgun, `sender` a From header."""

    api_base: str
    domain: str
    sender: str
    api_key: str = field(repr=False)


class MailgunMail:
    """Sends each mail with its step's Message-ID, its links untouched. Retries nothing: steps do."""

    def __init__(
        self, settings: MailgunSettings, *, client: httpx.AsyncClient, total_seconds: float = TOTAL_SECONDS
    ) -> None:
        self._settings = settings
        self._url = f"{settings.api_base.rstrip('/')}/v3/{quote(settings.domain, safe='')}/messages"
        self._sender_domain = sender_domain(settings.sender)
        self._client = client
        self._total_seconds = total_seconds

    async def send(self, message: OutgoingMail) -> SendResult:
        """Send once; an address that cannot stand in a mail is rejected without asking Mailgun."""
        try:
            form = self._form(message)
        except MalformedRecipient:
            return SendResult(SendOutcome.REJECTED, "recipient_malformed")
        request = MailRequest(self._url, login=("api", self._settings.api_key), form=form)
        return await post_mail(self._client, request, self._total_seconds)

    def _form(self, message: OutgoingMail) -> dict[str, str]:
        return {
            "from": self._settings.sender,
            "to": recipient_address(message.recipient).addr_spec,
            "subject": message.subject,
            "text": message.text,
            "html": message.html,
            "h:Message-Id": message_id(message.key, self._sender_domain),
            "h:Auto-Submitted": "auto-generated",
            "h:X-Bursar-Mail-Type": message.mail_type,
            "o:tag": message.mail_type,
            "o:tracking": "no",  # would have the links lead elsewhere first
        }
