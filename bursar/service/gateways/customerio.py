"""Mail over Customer.io's transactional API (`POST /v1/send/email`)."""

import re
from dataclasses import dataclass, field
from typing import Any

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

_OPENS_LIQUID = re.compile(r"\{(?=[{%])")


@dataclass(frozen=True, slots=True)
class CustomerioSettings:
    """`sender` is a From header whose domain is verified there."""

    api_base: str
    sender: str
    app_api_key: str = field(repr=False)


class CustomerioMail:
    """Sends our own content, one transactional message there per mail type. Retries nothing: steps do."""

    def __init__(
        self, settings: CustomerioSettings, *, client: httpx.AsyncClient, total_seconds: float = TOTAL_SECONDS
    ) -> None:
        self._settings = settings
        self._url = f"{settings.api_base.rstrip('/')}/v1/send/email"
        self._sender_domain = sender_domain(settings.sender)
        self._client = client
        self._total_seconds = total_seconds

    async def send(self, message: OutgoingMail) -> SendResult:
        """Send once; an address that cannot stand in a mail is rejected without asking Customer.io."""
        try:
            body = self._body(message)
        except MalformedRecipient:
            return SendResult(SendOutcome.REJECTED, "recipient_malformed")
        headers = {"Authorization": f"Bearer {self._settings.app_api_key}"}
        request = MailRequest(self._url, headers=headers, json=body)
        return await post_mail(self._client, request, self._total_seconds)

    def _body(self, message: OutgoingMail) -> dict[str, Any]:
        recipient = recipient_address(message.recipient).addr_spec
        return {
            "transactional_message_id": message.mail_type,
            "auto_create": True,  # the message of that name, where it is not there yet
            "identifiers": {"email": recipient},
            "to": recipient,
            "from": self._settings.sender,
            "subject": plain_of_liquid(message.subject),
            "body": html_of_liquid(message.html),
            "body_plain": plain_of_liquid(message.text),
            "headers": {
                "Auto-Submitted": "auto-generated",
                "X-Bursar-Mail-Type": message.mail_type,
                # Customer.io makes the Message-ID itself; ours tells two attempts of one mail.
                "X-Bursar-Message-Id": message_id(message.key, self._sender_domain),
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
