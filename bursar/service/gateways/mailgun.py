"""Mail over Mailgun's API (`POST /v3/{domain}/messages`)."""

from dataclasses import dataclass, field
from urllib.parse import quote

from bursar.service.gateways.http_mail import MailRequest
from bursar.service.gateways.mail import OutgoingMail, message_id, recipient_address, sender_domain


@dataclass(frozen=True, slots=True)
class Mailgun:
    """Writes each mail with its step's Message-ID, its links untouched. `domain` is the sending domain at Mailgun,
    `sender` a From header.
    """

    api_base: str
    domain: str
    sender: str
    api_key: str = field(repr=False)

    def request(self, message: OutgoingMail) -> MailRequest:
        """How Mailgun is asked to send it. Raises `MalformedRecipient`."""
        url = f"{self.api_base.rstrip('/')}/v3/{quote(self.domain, safe='')}/messages"
        return MailRequest(url, login=("api", self.api_key), form=self._form(message))

    def _form(self, message: OutgoingMail) -> dict[str, str]:
        return {
            "from": self.sender,
            "to": recipient_address(message.recipient).addr_spec,
            "subject": message.subject,
            "text": message.text,
            "html": message.html,
            "h:Message-Id": message_id(message.key, sender_domain(self.sender)),
            "h:Auto-Submitted": "auto-generated",
            "h:X-Bursar-Mail-Type": message.mail_type,
            "o:tag": message.mail_type,
            "o:tracking": "no",  # would have the links lead elsewhere first
        }
