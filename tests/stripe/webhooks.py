"""Events as Stripe posts them: signed, in any order, some of them twice."""

import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable, Sequence
from random import Random

import orjson

from bursar.service.demo.lives import JsonObject

Post = Callable[[bytes, dict[str, str]], Awaitable[int]]  # body and headers in, HTTP status out
MAX_TRIES = 20


def signature(body: bytes, secret: str, at: int | None = None) -> str:
    """`Stripe-Signature`; `at` is real time in Unix seconds, as the receiver's tolerance is."""
    stamp = int(time.time()) if at is None else at
    signed = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={signed}"


def in_order(events: Sequence[JsonObject], *, shuffle: int | None = None, doubled: float = 0.0) -> list[JsonObject]:
    """The deliveries: as they happened, or shuffled by a seed, with that share of them doubled."""
    chance = Random(shuffle or 0)
    twice = [event for event in events if chance.random() < doubled]
    deliveries = [*events, *twice]
    if shuffle is not None:
        chance.shuffle(deliveries)
    return deliveries


async def deliver(post: Post, events: Sequence[JsonObject], secret: str) -> None:
    """Post each; what is not answered 2xx comes again after the others, as Stripe does later."""
    waiting = list(events)
    for _ in range(MAX_TRIES):
        refused = [event for event in waiting if not await _taken(post, event, secret)]
        if not refused:
            return
        waiting = refused
    raise AssertionError(f"{len(waiting)} events were refused {MAX_TRIES} times, first {waiting[0]['type']}")


async def _taken(post: Post, event: JsonObject, secret: str) -> bool:
    body = orjson.dumps(event)
    headers = {"Stripe-Signature": signature(body, secret), "Content-Type": "application/json"}
    return await post(body, headers) // 100 == 2
