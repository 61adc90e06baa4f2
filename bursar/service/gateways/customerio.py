"""Mail over Customer.io's transactional API (`POST /v1/send/email`)."""

import re
from dataclasses import dataclass, field
from typing import Any

from bursar.service.gateways.http_mail import MailRequest
from bursar.service.gateways.mail import OutgoingMail, message_id, recipient_address, sender_domain

_OPENS_LIQUID = re.compile(r"\{(?=[{%])")


@dataclass(frozen=True, slots=True)
class Customerio:
    """Writes our own content, one transactional message there per mail type. `sender` is a From header whose domain is
    verified there.
    """

    api_base: str
    sender: str
    app_api_key: str = field(repr=False)

    def request(self, message: OutgoingMail) -> MailRequest:
        """How Customer.io is asked to send it. Raises `MalformedRecipient`."""
        url = f"{self.api_base.rstrip('/')}/v1/send/email"
        return MailRequest(url, headers={"Authorization": f"Bearer {self.app_api_key}"}, json=self._body(message))

    def _body(self, message: OutgoingMail) -> dict[str, Any]:
        recipient = recipient_address(message.recipient).addr_spec
        return {
            "transactional_message_id": message.mail_type,
            "auto_create": True,  # the message of that name, where it is not there yet
            "identifiers": {"email": recipient},
            "to": recipient,
            "from": self.sender,
            "subject": plain_of_liquid(message.subject),
            "body": html_of_liquid(message.html),
            "body_plain": plain_of_liquid(message.text),
            "headers": {
                "Auto-Submitted": "auto-generated",
                "X-Bursar-Mail-Type": message.mail_type,
                # Customer.io makes the Message-ID itself; ours tells two attempts of one mail.
                "X-Bursar-Message-Id": message_id(message.key, sender_domain(self.sender)),
            },
            "tracked": False,  # would have the links lead elsewhere first
            "disable_css_preprocessing": True,
            "send_to_unsubscribed": True,  # these are about the service itself, not marketing
            "queue_draft": False,
        }


def html_of_liquid(html: str) -> str:
    """The same page without Liquid, which Customer.io would carry out: a name may hold any characters."""
    return html.replace("{", "&#123;")


def plain_of_liquid(text: str) -> str:
    """The text with a space in what would open Liquid."""
    return _OPENS_LIQUID.sub("{ ", text)
