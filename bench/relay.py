"""The webhook relay: signed events over HTTP to `bursar web`, beside publishing the same events without it."""

import asyncio
import hashlib
import hmac
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from statistics import quantiles

from bench.contenders import web_environment
from bench.peers.bursar_lanes import BursarLanes
from bench.peers.contender import Addresses
from bench.peers.events import Event
from bench.processes import ProcessFailed, running
from bench.rounds import THOUSAND, Place
from bench.rows import copied
from bursar.billing.values import Value
from bursar.service.servers.probes import LOOPBACK, free_port

AT_ONCE = 32  # requests in flight under full load; Stripe opens about as many connections
READY_SECONDS = 30.0
POLL_SECONDS = 0.1
PACED_EVENTS_AT_MOST = 3_000

Send = Callable[[Event], Awaitable[None]]


class RelayRound(Value):
    """Requests a second with 32 in flight, how long they took then, and how long at a steady rate; milliseconds."""

    relay_per_second: float
    relay_full_p99_ms: float
    relay_paced_p50_ms: float
    relay_paced_p99_ms: float
    publish_per_second: float
    publish_full_p99_ms: float
    publish_paced_p50_ms: float
    publish_paced_p99_ms: float


async def relay_rounds(
    place: Place, events: Sequence[Event], told: Callable[[RelayRound], None], *, rounds: int, rate: float
) -> list[RelayRound]:
    """Both in turn; one more round before them does not count. The queues are emptied in between. Each round is
    `told` when it ends.
    """
    async with copied(place.database_url, place.template) as database_url:
        addresses = Addresses(database_url, place.amqp_url)
        lanes, port = BursarLanes(addresses), free_port()
        environment = web_environment(addresses) | {"BURSAR_WEB_PORT": str(port)}
        command = [sys.executable, "-m", "bursar.service.cli", "web"]
        await lanes.prepare()
        async with running(command, environment, place.log), AsyncExitStack() as stack:
            await _listening(port)
            relay = Connections(port, environment["STRIPE_WEBHOOK_SECRET"])
            stack.push_async_callback(relay.close)
            publish = await stack.enter_async_context(lanes.sending())
            measured = []
            for number in range(rounds + 1):
                through = await _measured(relay.send, events, rate)
                await lanes.prepare()
                bare = await _measured(publish, events, rate)
                await lanes.prepare()
                if number > 0:
                    measured.append(RelayRound(*through, *bare))
                    told(measured[-1])
        return measured


async def _measured(send: Send, events: Sequence[Event], rate: float) -> tuple[float, float, float, float]:
    per_second, full = await _under_full_load(send, iter(events))
    paced = quantiles(await _paced(send, events[:PACED_EVENTS_AT_MOST], rate), n=100)
    return per_second, quantiles(full, n=100)[98], paced[49], paced[98]


async def _under_full_load(send: Send, waiting: Iterator[Event]) -> tuple[float, list[float]]:
    took: list[float] = []

    async def sender() -> None:
        took.extend([await _timed(send, event) for event in waiting])

    began = time.perf_counter()
    await asyncio.gather(*(sender() for _ in range(AT_ONCE)))
    return len(took) / (time.perf_counter() - began), took


async def _paced(send: Send, events: Sequence[Event], rate: float) -> list[float]:
    """Each when its turn comes, whether or not the one before was answered."""
    began, sending = time.perf_counter(), list[asyncio.Task[float]]()
    for number, event in enumerate(events):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        sending.append(asyncio.create_task(_timed(send, event)))
    return list(await asyncio.gather(*sending))


async def _timed(send: Send, event: Event) -> float:
    began = time.perf_counter()
    await send(event)
    return THOUSAND * (time.perf_counter() - began)


class Connections:
    """HTTP/1.1 connections that are kept open: as little of the machine as may be, which the relay shares."""

    def __init__(self, port: int, secret: str) -> None:
        self._port = port
        self._secret = secret.encode()
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def send(self, event: Event) -> None:
        """Post the event, signed; ProcessFailed unless it is accepted."""
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection(LOOPBACK, self._port)
        writer.write(self._request(event.body))
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(_length(head))
        if not head.startswith(b"HTTP/1.1 200 "):
            raise ProcessFailed(f"the relay answered {head.splitlines()[0].decode()}")
        self._idle.append((reader, writer))

    async def close(self) -> None:
        """Close them all."""
        for _, writer in self._idle:
            writer.close()

    def _request(self, body: bytes) -> bytes:
        at = int(time.time())
        signature = hmac.new(self._secret, b"%d." % at + body, hashlib.sha256).hexdigest()
        return (
            f"POST /webhooks/stripe HTTP/1.1\r\nHost: {LOOPBACK}:{self._port}\r\nContent-Type: application/json\r\n"
            f"Stripe-Signature: t={at},v1={signature}\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body


def _length(head: bytes) -> int:
    lines = (line.partition(b":") for line in head.splitlines())
    return int(next(value for name, _, value in lines if name.lower() == b"content-length"))


async def _listening(port: int) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError):
            _, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.close()
            return
        await asyncio.sleep(POLL_SECONDS)
    raise ProcessFailed(f"`bursar web` did not listen within {READY_SECONDS:.0f} s")
