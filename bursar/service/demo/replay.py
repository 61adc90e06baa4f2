"""Delivers events as Stripe does: signed webhooks, late, in any order, some twice, again when we are not there."""

import asyncio
import hashlib
import hmac
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from random import Random

import httpx
import orjson
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    RetryError,
    retry_if_exception_type,
    stop_after_delay,
    wait_exponential_jitter,
)

from bursar.service.demo.lives import JsonObject

CONCURRENCY = 32
TIMEOUT_SECONDS = 30.0
FIRST_BACKOFF_SECONDS = 0.1
MAX_BACKOFF_SECONDS = 2.0
GIVE_UP_AFTER_SECONDS = 120.0
_TRUST = ssl.create_default_context()  # once for all clients: making it takes longer than a delivery


class _NotTakenError(Exception):
    """The relay answered 503: it did not take the event."""


@dataclass(slots=True)
class ReplayFigures:
    """What the replay did. `answers` counts every answer by status, those to retries too."""

    sent: int = 0
    duplicates_sent: int = 0
    retries: int = 0
    undelivered: int = 0
    seconds: float = 0.0
    answers: Counter[int] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)


def signature(payload: bytes, secret: str, at: int) -> str:
    """The `Stripe-Signature` header of a payload, at an instant in Unix seconds."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + payload, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def deliveries(events: Sequence[JsonObject], *, seed: int, doubled: float = 0.2) -> list[JsonObject]:
    """Every event once and that share of them twice, shuffled; the same for the same seed."""
    draw = Random(seed)  # noqa: S311 - an order to be repeated, not a secret
    twice = draw.sample(list(events), round(doubled * len(events)))
    queue = [*events, *twice]
    draw.shuffle(queue)
    return queue


async def replay(
    queue: Sequence[JsonObject],
    *,
    url: str,
    secret: str,
    concurrency: int = CONCURRENCY,
    give_up_after_seconds: float = GIVE_UP_AFTER_SECONDS,
    on_delivered: Callable[[], None] = lambda: None,
) -> ReplayFigures:
    """Post all to `url`. A 503 or a broken connection is tried again, signed anew, until the time is over."""
    figures = ReplayFigures(sent=len(queue), duplicates_sent=len(queue) - len({event["id"] for event in queue}))
    waiting = iter(queue)
    couriers = [_Courier(_client(), url, secret, give_up_after_seconds, figures) for _ in range(concurrency)]
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for courier in couriers:
            group.create_task(courier.deliver_all(waiting, on_delivered))
    figures.seconds = time.monotonic() - began
    return figures


def _client() -> httpx.AsyncClient:
    """A client with one connection: httpx's pool of 32 takes longer to choose a connection than to use it."""
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
    return httpx.AsyncClient(limits=limits, timeout=TIMEOUT_SECONDS, verify=_TRUST, trust_env=False)


@dataclass(slots=True)
class _Courier:
    client: httpx.AsyncClient
    url: str
    secret: str
    give_up_after_seconds: float
    figures: ReplayFigures

    async def deliver_all(self, waiting: Iterator[JsonObject], on_delivered: Callable[[], None]) -> None:
        async with self.client:
            for event in waiting:
                await self._deliver(event["id"], orjson.dumps(event))
                on_delivered()

    async def _deliver(self, event_id: str, payload: bytes) -> None:
        retrying = AsyncRetrying(
            stop=stop_after_delay(self.give_up_after_seconds),
            wait=wait_exponential_jitter(
                multiplier=FIRST_BACKOFF_SECONDS, max=MAX_BACKOFF_SECONDS, jitter=FIRST_BACKOFF_SECONDS
            ),
            retry=retry_if_exception_type((httpx.TransportError, _NotTakenError)),
            before_sleep=self._count_retry,
        )
        try:
            status: int = await retrying(self._post, payload)
        except RetryError:
            self.figures.undelivered += 1
        else:
            self.figures.accepted[event_id] += httpx.codes.is_success(status)

    async def _post(self, payload: bytes) -> int:
        headers = {
            "Stripe-Signature": signature(payload, self.secret, int(time.time())),
            "Content-Type": "application/json",
        }
        answer = await self.client.post(self.url, content=payload, headers=headers)
        self.figures.answers[answer.status_code] += 1
        if answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            raise _NotTakenError
        return answer.status_code

    def _count_retry(self, _state: RetryCallState) -> None:
        self.figures.retries += 1
