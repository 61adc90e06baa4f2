"""Publishing durably: confirmed, mandatory, persistent (MS-2)."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import aiormq
import orjson

from bursar.billing.account import partition_of
from bursar.billing.errors import OwnServerAway
from bursar.handlers.messages import ReceivedMessage
from bursar.service.broker import topology
from bursar.service.broker.connecting import BROKER_TROUBLE, CLOSE_TIMEOUT_SECONDS, connect, driver_channel
from bursar.service.broker.forms import SCHEMA_VERSION, TICK_TYPE, tick_message_id

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

PUBLISH_TIMEOUT_SECONDS = 5.0
RECONNECT_PAUSE_SECONDS = 0.5  # while the broker is down, callers are told so at once between two attempts
PERSISTENT = 2


class NotConfirmed(OwnServerAway):
    """The broker did not take the message: silent, not reachable, refused it, or has no queue for it."""


class MessagePublisher:
    """Publishes on one channel; any number of callers at once. Connects when first used, and again when it must.

    It goes to the driver's channel directly, which takes half the time of the layers above it: docs/decisions.
    """

    def __init__(self, amqp_url: str, partitions: int, *, timeout_seconds: float = PUBLISH_TIMEOUT_SECONDS) -> None:
        self._amqp_url = amqp_url
        self._partitions = partitions
        self._timeout_seconds = timeout_seconds
        self._connection: AbstractConnection | None = None
        self._channel: aiormq.Channel | None = None
        self._connecting = asyncio.Lock()
        self._next_attempt = 0.0

    @property
    def is_connected(self) -> bool:
        """For readiness."""
        return self._channel is not None and not self._channel.is_closed

    async def publish(self, message: ReceivedMessage) -> None:
        """Send a message to the partition of its account; NotConfirmed unless the broker took it within 5 s."""
        headers = {**message.headers, "account": message.account, "schema": SCHEMA_VERSION}
        if message.occurred_at:
            headers["occurred_at"] = message.occurred_at.isoformat()
        if message.traceparent:
            headers["traceparent"] = message.traceparent
        partition = partition_of(message.account, self._partitions)
        properties = _properties(message.message_id, message.type, headers)
        await self._send(topology.ACCOUNTS, topology.routing_key(partition), message.body, properties)

    async def publish_tick(self, sweep: str, due_at: datetime, traceparent: str | None = None) -> None:
        """Send a tick to `bursar.ticks`; NotConfirmed as above."""
        headers = {"schema": SCHEMA_VERSION} | ({"traceparent": traceparent} if traceparent else {})
        properties = _properties(tick_message_id(sweep, due_at), TICK_TYPE, headers)
        await self._send(topology.TICKS, topology.TICKS, orjson.dumps({"sweep": sweep, "due_at": due_at}), properties)

    async def publish_partition_tick(self, tick_id: int, sweep: str, due_at: datetime, partition: int) -> None:
        """Send a tick to one partition; NotConfirmed as above."""
        body = {"tick_id": tick_id, "sweep": sweep, "due_at": due_at, "partition": partition}
        message_id = f"{tick_message_id(sweep, due_at)}:{partition}"
        properties = _properties(message_id, TICK_TYPE, {"schema": SCHEMA_VERSION})
        await self._send(topology.ACCOUNTS, topology.routing_key(partition), orjson.dumps(body), properties)

    async def connect(self) -> None:
        """Connect now, so that the first message need not wait; NotConfirmed when the broker does not answer."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._opened_channel()
        except BROKER_TROUBLE as error:
            raise _not_confirmed(error) from error

    async def close(self) -> None:
        """Close the connection; what is not confirmed by then raises at its caller."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection:
            with contextlib.suppress(*BROKER_TROUBLE):
                await asyncio.wait_for(connection.close(), CLOSE_TIMEOUT_SECONDS)

    async def _send(self, exchange: str, key: str, body: bytes, properties: aiormq.spec.Basic.Properties) -> None:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                channel = self._channel
                if channel is None or channel.is_closed:
                    channel = await self._opened_channel()
                # Not waiting for the socket to drain: the confirmation says more.
                await channel.basic_publish(
                    body, exchange=exchange, routing_key=key, properties=properties, mandatory=True, wait=False
                )
        except BROKER_TROUBLE as error:
            raise _not_confirmed(error) from error

    async def _opened_channel(self) -> aiormq.Channel:
        async with self._connecting:
            if self._channel is not None and not self._channel.is_closed:
                return self._channel
            if time.monotonic() < self._next_attempt:
                raise ConnectionError("the broker did not answer just now")
            self._next_attempt = time.monotonic() + RECONNECT_PAUSE_SECONDS
            await self.close()
            self._connection = await connect(self._amqp_url, "bursar publisher")
            opened = await self._connection.channel(on_return_raises=True)
            await topology.declare(opened, self._partitions)
            self._channel = await driver_channel(opened)
            return self._channel


@asynccontextmanager
async def open_publisher(amqp_url: str, partitions: int) -> AsyncIterator[MessagePublisher]:
    """A publisher that is connected where the broker answers, and connects later where it does not."""
    publisher = MessagePublisher(amqp_url, partitions)
    with contextlib.suppress(NotConfirmed):
        await publisher.connect()
    try:
        yield publisher
    finally:
        await publisher.close()


def _properties(message_id: str, message_type: str, headers: Mapping[str, Any]) -> aiormq.spec.Basic.Properties:
    return aiormq.spec.Basic.Properties(
        content_type="application/json",
        delivery_mode=PERSISTENT,
        message_id=message_id,
        message_type=message_type,
        headers=dict(headers),
    )


def _not_confirmed(error: BaseException) -> NotConfirmed:
    return NotConfirmed(f"the broker did not take the message ({type(error).__name__})")
