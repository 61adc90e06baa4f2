"""The instance API: brings one instance to its desired state (KC-77, KC-91, KC-92)."""

import asyncio
from enum import StrEnum
from http import HTTPStatus
from typing import Literal
from urllib.parse import quote

import httpx

from bursar.billing.errors import Permanent
from bursar.billing.values import Value
from bursar.service.gateways.retry_after import retry_after_seconds

CONNECT_SECONDS = 3.0
TOTAL_SECONDS = 10.0
MAX_CONNECTIONS = 32
MAX_BODY_BYTES = 65_536

DesiredState = Literal["running", "stopped", "destroyed"]


class CallOutcome(StrEnum):
    """What a call to the instance API came to."""

    DONE = "done"
    SUPERSEDED = "superseded"  # the other side has seen a newer generation (KC-91)
    RETRY = "retry"


class CallResult(Value):
    """The outcome; `error` is a class such as `http_503` or `ConnectError`, never the other side's text (MS-14)."""

    outcome: CallOutcome
    error: str | None = None
    retry_after_seconds: float | None = None


_REQUESTS: dict[DesiredState, tuple[str, str]] = {
    "running": ("POST", "/start"),
    "stopped": ("POST", "/stop"),
    "destroyed": ("DELETE", ""),
}

# KC-77: these refusals say that the state already holds. A destroy's 409 and a start's 404 are not among them (KC-92).
_ALREADY_SO: dict[DesiredState, frozenset[int]] = {
    "running": frozenset(),
    "stopped": frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}),
    "destroyed": frozenset({HTTPStatus.NOT_FOUND}),
}


def classify(desired: DesiredState, status_code: int) -> CallOutcome:
    """What an HTTP status means for a desired state (KC-77, KC-91, KC-92)."""
    if HTTPStatus(200) <= status_code < HTTPStatus(300) or status_code in _ALREADY_SO[desired]:
        return CallOutcome.DONE
    if status_code == HTTPStatus.PRECONDITION_FAILED:
        return CallOutcome.SUPERSEDED
    return CallOutcome.RETRY


def instances_client() -> httpx.AsyncClient:
    """An HTTP client with this API's bounds; its owner closes it."""
    return httpx.AsyncClient(
        limits=httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS),
        timeout=httpx.Timeout(TOTAL_SECONDS, connect=CONNECT_SECONDS),
        follow_redirects=False,
    )


class InstancesGateway:
    """Calls the instance API with a bearer, an idempotency key and the generation. Retries nothing: steps do."""

    def __init__(
        self, base_url: str, secret: str, *, client: httpx.AsyncClient, total_seconds: float = TOTAL_SECONDS
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._secret = secret
        self._client = client
        self._total_seconds = total_seconds

    async def bring_about(
        self, instance_id: str, desired: DesiredState, generation: int, idempotency_key: str
    ) -> CallResult:
        """Ask for the desired state once.

        `superseded` only says that the other side refused the generation: the caller compares it with the newest.
        Raises `Permanent` for an instance id that cannot stand in an address.
        """
        method, action = _REQUESTS[desired]
        url = f"{self._base_url}/instances/{_path_segment(instance_id)}{action}"
        headers = {
            "Authorization": f"Bearer {self._secret}",
            "Idempotency-Key": quote(idempotency_key, safe=":/@"),
            "X-Generation": str(generation),
        }
        try:
            async with asyncio.timeout(self._total_seconds):
                return await self._call(method, url, headers, desired)
        except (httpx.TransportError, TimeoutError) as error:
            return CallResult(CallOutcome.RETRY, error=type(error).__name__)

    async def _call(self, method: str, url: str, headers: dict[str, str], desired: DesiredState) -> CallResult:
        async with self._client.stream(method, url, headers=headers) as response:
            await _drain(response)
        outcome = classify(desired, response.status_code)
        if outcome is CallOutcome.DONE:
            return CallResult(outcome)
        wish = retry_after_seconds(response.headers.get("Retry-After"))
        return CallResult(outcome, error=f"http_{response.status_code}", retry_after_seconds=wish)


def _path_segment(instance_id: str) -> str:
    if instance_id in {"", ".", ".."}:  # would name another resource than an instance
        raise Permanent("the instance id cannot stand in an address")
    return quote(instance_id, safe="")


async def _drain(response: httpx.Response) -> None:
    """Read a bounded body away so that the connection can serve again; a longer one costs its connection."""
    read_bytes = 0
    async for chunk in response.aiter_raw():
        read_bytes += len(chunk)
        if read_bytes > MAX_BODY_BYTES:
            return
