"""Mail over a provider's HTTP API: one request, and what its answer means (KC-86…KC-88).

Neither API knows an idempotency key, so a request that may have arrived is never repeated here or elsewhere.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

import httpx
import orjson

from bursar.service.gateways.mail import MalformedRecipient, OutgoingMail, SendOutcome, SendResult
from bursar.service.gateways.retry_after import retry_after_seconds

POOL_SECONDS = 2.0
CONNECT_SECONDS = 3.0  # to connect, and once more for TLS
TOTAL_SECONDS = 15.0  # longer than all that comes before the request, so that its end means: handed over, no answer
REFUSAL_SECONDS = 2.0
MAX_REFUSAL_BYTES = 65_536
MAX_CONNECTIONS = 8

# What fails like this fails before the request is on its way.
_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.LocalProtocolError,
    httpx.UnsupportedProtocol,
)
_ABOUT_THE_REQUEST = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY})
_ADDRESS_REFUSED = re.compile(r"\W*to\W.*\b(invalid|malformed|not (a )?valid)\b", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class MailRequest:
    """A POST that sends one mail; `form` or `json` is its body."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    login: tuple[str, str] | None = field(default=None, repr=False)
    form: Mapping[str, str] | None = field(default=None, repr=False)
    json: Mapping[str, Any] | None = field(default=None, repr=False)


class MailProvider(Protocol):
    """How one provider is asked. `request` raises `MalformedRecipient`."""

    def request(self, message: OutgoingMail) -> MailRequest: ...


class HttpMail:
    """Sends each mail over one provider. Retries nothing: steps do."""

    def __init__(
        self, provider: MailProvider, *, client: httpx.AsyncClient, total_seconds: float = TOTAL_SECONDS
    ) -> None:
        self.provider = provider
        self._client = client
        self._total_seconds = total_seconds

    async def send(self, message: OutgoingMail) -> SendResult:
        """Send once; an address that cannot stand in a mail is rejected without asking the provider."""
        try:
            request = self.provider.request(message)
        except MalformedRecipient:
            return SendResult(SendOutcome.REJECTED, "recipient_malformed")
        return await _send(self._client, request, self._total_seconds)


def mail_client() -> httpx.AsyncClient:
    """An HTTP client with these bounds; its owner closes it.

    Each mail has a connection of its own: one that was kept may end just as the next mail is written to it, and
    then nobody could say whether that mail was taken.
    """
    return httpx.AsyncClient(
        headers={"Accept-Encoding": "identity"},  # what is bounded is what is read
        limits=httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=0),
        timeout=httpx.Timeout(TOTAL_SECONDS, connect=CONNECT_SECONDS, pool=POOL_SECONDS),
        follow_redirects=False,
    )


async def _send(client: httpx.AsyncClient, request: MailRequest, total_seconds: float) -> SendResult:
    """Send once. Never raises for what the other side does, and repeats none of its words (MS-14)."""
    try:
        async with asyncio.timeout(total_seconds):
            return await _post(client, request)
    except _NEVER_SENT as error:
        return SendResult(SendOutcome.RETRY, type(error).__name__)
    except (httpx.TransportError, TimeoutError) as error:
        return SendResult(SendOutcome.UNKNOWN, type(error).__name__)


async def _post(client: httpx.AsyncClient, request: MailRequest) -> SendResult:
    post = client.stream(
        "POST", request.url, headers=request.headers, auth=request.login, data=request.form, json=request.json
    )
    async with post as response:
        said = await _refusal(response) if response.status_code in _ABOUT_THE_REQUEST else ""
    return _judge(response, said)


def _judge(response: httpx.Response, said: str) -> SendResult:
    """2xx is sent, a refused address is rejected; every other refusal is ours or theirs to mend and tried again."""
    error = f"http_{response.status_code}"
    if response.is_success:
        return SendResult(SendOutcome.SENT)
    if response.status_code == HTTPStatus.GATEWAY_TIMEOUT:  # a time-out behind their door: it may have been taken
        return SendResult(SendOutcome.UNKNOWN, error)
    if _ADDRESS_REFUSED.match(said):
        return SendResult(SendOutcome.REJECTED, error)
    return SendResult(SendOutcome.RETRY, error, retry_after_seconds(response.headers.get("Retry-After")))


async def _refusal(response: httpx.Response) -> str:
    """Mailgun's `message` or Customer.io's `meta.error`; empty where neither can be read. That it is a refusal
    is known by then, so no trouble with its text counts.
    """
    try:
        async with asyncio.timeout(REFUSAL_SECONDS):
            said = orjson.loads(await _bounded(response))
    except (httpx.HTTPError, TimeoutError, ValueError):
        return ""
    meta = said.get("meta") if isinstance(said, dict) else None
    text = meta.get("error") if isinstance(meta, dict) else said.get("message") if isinstance(said, dict) else None
    return text if isinstance(text, str) else ""


async def _bounded(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_REFUSAL_BYTES:
            return b""
    return bytes(body)
