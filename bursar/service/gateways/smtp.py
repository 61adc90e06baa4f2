"""Mail over SMTP. Whether the letter was handed over decides between retry and unknown (KC-87)."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

import aiosmtplib

from bursar.service.gateways.mail import (
    MalformedRecipient,
    OutgoingMail,
    SendOutcome,
    SendResult,
    compose,
    recipient_address,
    sender_domain,
)

TIMEOUT_SECONDS = 15.0  # once for all up to the recipient, once for the letter
QUIT_SECONDS = 2.0
MAX_CONNECTIONS = 8

PERMANENT_FROM = 500
# 5xx answers to a recipient which speak of the session (syntax, order, authentication, TLS), not of the address
SESSION_REFUSALS = frozenset({500, 502, 503, 504, 530, 534, 535, 538})

_FAILURES = (aiosmtplib.SMTPException, OSError, TimeoutError)


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """Where and as whom to send. With `starttls` TLS is required, never merely tried; `sender` is a From header."""

    host: str
    port: int
    sender: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    starttls: bool = True


class SmtpMail:
    """Sends each mail over a connection of its own, at most 8 at once. Retries nothing: steps do."""

    def __init__(self, settings: SmtpSettings, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._settings = settings
        self._domain = sender_domain(settings.sender)
        self._timeout_seconds = timeout_seconds
        self._connections = asyncio.Semaphore(MAX_CONNECTIONS)

    async def send(self, message: OutgoingMail) -> SendResult:
        """Send once. Never raises for what the server does, and repeats none of its words (MS-14)."""
        try:
            recipient = recipient_address(message.recipient).addr_spec
            letter = compose(message, self._settings.sender).as_bytes()
        except MalformedRecipient:
            return SendResult(SendOutcome.REJECTED, "recipient_malformed")
        async with self._connections:
            client = self._client()
            try:
                return await self._envelope(client, recipient) or await self._letter(client, letter)
            finally:
                client.close()

    async def _envelope(self, client: aiosmtplib.SMTP, recipient: str) -> SendResult | None:
        """Everything before the letter: whatever fails here, nothing was sent. None when the server is ready for it."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await client.connect()
                await client.mail(_envelope_sender(self._settings.sender))
                await client.rcpt(recipient)
        except aiosmtplib.SMTPRecipientRefused as refusal:
            of_address = refusal.code >= PERMANENT_FROM and refusal.code not in SESSION_REFUSALS
            return SendResult(SendOutcome.REJECTED if of_address else SendOutcome.RETRY, f"smtp_{refusal.code}")
        except aiosmtplib.SMTPResponseException as refusal:
            return SendResult(SendOutcome.RETRY, f"smtp_{refusal.code}")
        except _FAILURES as error:
            return SendResult(SendOutcome.RETRY, type(error).__name__)
        return None

    async def _letter(self, client: aiosmtplib.SMTP, letter: bytes) -> SendResult:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await client.data(letter)
        except aiosmtplib.SMTPResponseException as refusal:
            refused = refusal.code >= PERMANENT_FROM
            return SendResult(SendOutcome.REJECTED if refused else SendOutcome.RETRY, f"smtp_{refusal.code}")
        except _FAILURES as error:
            return SendResult(SendOutcome.UNKNOWN, type(error).__name__)
        with suppress(*_FAILURES):  # the letter is accepted: how the connection ends changes nothing
            await client.quit(timeout=QUIT_SECONDS)
        return SendResult(SendOutcome.SENT)

    def _client(self) -> aiosmtplib.SMTP:
        return aiosmtplib.SMTP(
            hostname=self._settings.host,
            port=self._settings.port,
            username=self._settings.username,
            password=self._settings.password,
            start_tls=self._settings.starttls,
            local_hostname=self._domain,
            timeout=self._timeout_seconds,
        )


def _envelope_sender(sender: str) -> str:
    return aiosmtplib.email.parse_address(sender)
