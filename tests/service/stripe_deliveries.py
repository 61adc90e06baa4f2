"""Delivers as Stripe does: signed, at a steady rate, and again later what was not answered 2xx."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import orjson
from tenacity import AsyncRetrying, retry_if_result, stop_after_delay, wait_exponential_jitter

from bursar.billing.values import Value
from bursar.service.demo.lives import JsonObject
from bursar.service.demo.replay import signature
from bursar.service.processes.supervision import wait_or_stop

NO_ANSWER = 0
AT_ONCE = 16
TIMEOUT_SECONDS = 10.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, JITTER_SECONDS = 1.0, 6.0, 2.0  # Stripe's are minutes to hours
GIVE_UP_SECONDS = 90.0


class Answer(Value):
    """To one delivery; `asked_at` is in seconds of the monotonic clock, `status` 0 where there was no answer."""

    event_id: str
    asked_at: float
    status: int

    @property
    def is_taken(self) -> bool:
        return httpx.codes.is_success(self.status)


class StripeDeliveries:
    """What was answered to each event, in order. `hurry` ends the steady rate: the rest comes at once."""

    def __init__(self, web_url: str, secret: str, *, per_second: float) -> None:
        self.answers: list[Answer] = []
        self.hurry = asyncio.Event()
        self._url = f"{web_url}/webhooks/stripe"
        self._secret = secret
        self._pause_seconds = 1 / per_second

    async def deliver_all(self, events: Iterable[JsonObject]) -> None:
        """Until each is answered 2xx, or was not for 90 s.

        With httpx's blocking client: its other one looks for a module that is not installed with each request, which
        takes long in a test.
        """
        with ThreadPoolExecutor(AT_ONCE) as places, httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False) as client:
            async with asyncio.TaskGroup() as group:
                for event in events:
                    delivery = partial(self._deliver, client, event["id"], orjson.dumps(event))
                    group.create_task(_insist(places, delivery))
                    await wait_or_stop(self.hurry, self._pause_seconds)

    def _deliver(self, client: httpx.Client, event_id: str, payload: bytes) -> Answer:
        asked_at = time.monotonic()
        headers = {"Stripe-Signature": signature(payload, self._secret, int(time.time()))}
        try:
            status = client.post(self._url, content=payload, headers=headers).status_code
        except httpx.TransportError:
            status = NO_ANSWER
        answer = Answer(event_id, asked_at, status)
        self.answers.append(answer)
        return answer


async def _insist(places: ThreadPoolExecutor, delivery: Callable[[], Answer]) -> None:
    async def deliver() -> Answer:
        return await asyncio.get_running_loop().run_in_executor(places, delivery)

    await AsyncRetrying(
        retry=retry_if_result(lambda answer: not answer.is_taken),
        wait=wait_exponential_jitter(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, jitter=JITTER_SECONDS),
        stop=stop_after_delay(GIVE_UP_SECONDS),
        retry_error_callback=lambda _: None,
    )(deliver)


def taken(answers: Sequence[Answer]) -> set[str]:
    """The events that were answered 2xx."""
    return {answer.event_id for answer in answers if answer.is_taken}
