"""Delivers as Stripe does: signed, at a steady rate, and again what was not answered 2xx."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import httpx
import orjson
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    RetryError,
    retry_if_result,
    stop_after_delay,
    wait_exponential_jitter,
)

from bursar.billing.values import Value
from bursar.service.demo.lives import JsonObject
from bursar.service.demo.replay import signature

SENDERS = 16
TIMEOUT_SECONDS = 10.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 2.0  # Stripe's are minutes to hours
GIVE_UP_SECONDS = 180.0
NO_ANSWER = 0

Delivered = Callable[[], None]


@dataclass(slots=True)
class Deliveries:
    """What was sent and what came of it. Instants are seconds of the monotonic clock."""

    accepted_at: dict[str, float] = field(default_factory=dict)  # event id → when it was first answered 2xx
    answers: Counter[int] = field(default_factory=Counter)  # by status; 0 where there was no answer
    resent: int = 0
    undelivered: int = 0
    last_accepted_at: float = field(default_factory=time.monotonic)
    longest_without_seconds: float = 0.0  # in which no webhook was taken
    seconds: float = 0.0  # that it took in all
    ended: bool = False

    def accept(self, event_id: str) -> None:
        now = time.monotonic()
        self.longest_without_seconds = max(self.longest_without_seconds, now - self.last_accepted_at)
        self.last_accepted_at = now
        self.accepted_at.setdefault(event_id, now)

    def count_resent(self, _state: RetryCallState) -> None:
        self.resent += 1


class Endpoint(Value):
    """Where webhooks go, and what they are signed with."""

    url: str
    secret: str


class Couriers:
    """Some senders that share a queue. An event that is not taken is sent again before its sender takes another."""

    def __init__(self, endpoint: Endpoint, deliveries: Deliveries, on_delivered: Delivered = lambda: None) -> None:
        self._endpoint = endpoint
        self._deliveries = deliveries
        self._on_delivered = on_delivered

    async def deliver_all(self, queue: Sequence[JsonObject], *, seconds: float) -> None:
        """All of them, evenly over so many seconds; longer where the service was away."""
        waiting = iter(enumerate(queue))
        self._deliveries.last_accepted_at = began_at = time.monotonic()
        pause_seconds = seconds / max(len(queue), 1)
        async with asyncio.TaskGroup() as group:
            for _ in range(SENDERS):
                group.create_task(self._send(waiting, began_at, pause_seconds))
        self._deliveries.seconds = time.monotonic() - began_at
        self._deliveries.ended = True

    async def _send(self, waiting: Iterator[tuple[int, JsonObject]], began_at: float, pause_seconds: float) -> None:
        """With a client of one connection: httpx's pool takes longer to choose a connection than to use it."""
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
        # Plain HTTP on the loopback address: the context for TLS alone would cost more than the calls.
        client = httpx.AsyncClient(limits=limits, timeout=TIMEOUT_SECONDS, verify=False, trust_env=False)  # noqa: S501
        async with client:
            for place, event in waiting:
                await asyncio.sleep(max(0.0, began_at + place * pause_seconds - time.monotonic()))
                await self._insist(client, event)
                self._on_delivered()

    async def _insist(self, client: httpx.AsyncClient, event: JsonObject) -> None:
        retrying = AsyncRetrying(
            retry=retry_if_result(lambda status: not httpx.codes.is_success(status)),
            wait=wait_exponential_jitter(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, jitter=FIRST_PAUSE_SECONDS),
            stop=stop_after_delay(GIVE_UP_SECONDS),
            before_sleep=self._deliveries.count_resent,
        )
        try:
            await retrying(self._post, client, orjson.dumps(event))
        except RetryError:
            self._deliveries.undelivered += 1
        else:
            self._deliveries.accept(event["id"])

    async def _post(self, client: httpx.AsyncClient, payload: bytes) -> int:
        headers = {"Stripe-Signature": signature(payload, self._endpoint.secret, int(time.time()))}
        try:
            status = (await client.post(self._endpoint.url, content=payload, headers=headers)).status_code
        except httpx.TransportError:
            status = NO_ANSWER
        self._deliveries.answers[status] += 1
        return status
