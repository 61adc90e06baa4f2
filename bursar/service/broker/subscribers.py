"""What is not per account: ticks to be sent to the partitions, and what the broker gave up (MS-2, MS-6, MS-8)."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog
from faststream import AckPolicy
from faststream.exceptions import NackMessage
from faststream.rabbit import Channel, ExchangeType, RabbitBroker, RabbitExchange, RabbitMessage, RabbitQueue
from pydantic import ValidationError

from bursar.billing.errors import Permanent, Retryable, UnreadableMessage, describe
from bursar.db import parked
from bursar.db.clock import real_now
from bursar.db.connections import Connection
from bursar.db.parked import FailedMessage
from bursar.handlers.messages import ReceivedMessage
from bursar.service.broker import topology
from bursar.service.broker.connecting import BROKER_TROUBLE, connect
from bursar.service.broker.forms import Tick
from bursar.service.broker.lane import pause_seconds
from bursar.service.broker.lanes import BrokerLost
from bursar.service.broker.reading import Database, failed

log = structlog.get_logger()

PREFETCH = 8
GRACE_SECONDS = 10.0

Expand = Callable[[str, datetime], Awaitable[object]]  # (sweep, due_at); UnreadableMessage for an unknown sweep


class DeadLettered(Permanent):
    """The broker gave a message up."""


class Subscribers:
    """Takes ticks and dead letters. Acknowledged, by FastStream, once done or written down."""

    def __init__(self, amqp_url: str, partitions: int, *, expand: Expand, database: Database) -> None:
        self._amqp_url = amqp_url
        self._partitions = partitions
        self._expand = expand
        self._database = database
        self._stop = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Until told to stop. Raises BrokerLost when the broker is not there; later it connects again by itself."""
        self._stop = stop
        broker = self._broker()
        try:
            await self._declare()
            await broker.start()
            await stop.wait()
        except BROKER_TROUBLE as error:
            raise BrokerLost(f"the broker does not answer ({type(error).__name__})") from error
        finally:
            with contextlib.suppress(*BROKER_TROUBLE):
                await broker.stop()

    async def _declare(self) -> None:
        """First, and by us: FastStream would not declare where dead letters go."""
        connection = await connect(self._amqp_url, "bursar topology")
        async with connection:
            await topology.declare(await connection.channel(), self._partitions)

    def _broker(self) -> RabbitBroker:
        broker = RabbitBroker(self._amqp_url, logger=None, apply_types=False, graceful_timeout=GRACE_SECONDS)
        for name, kind, handle in (
            (topology.TICKS, ExchangeType.DIRECT, self._on_tick),
            (topology.DEAD, ExchangeType.FANOUT, self._on_dead_letter),
        ):
            broker.subscriber(
                RabbitQueue(name, durable=True, declare=False, routing_key=name),
                RabbitExchange(name, type=kind, durable=True, declare=False),
                channel=Channel(prefetch_count=PREFETCH),  # its own: on the default one the prefetch is not applied
                ack_policy=AckPolicy.NACK_ON_ERROR,
                decoder=_whole,
                no_reply=True,
            )(handle)
        return broker

    async def _on_tick(self, message: RabbitMessage) -> None:
        tick = _received(message)
        try:
            await self._insist(lambda: self._send_on(tick))
        except NackMessage:
            raise
        except Exception as error:  # noqa: BLE001 - written down with its error
            await self._write_down(failed(tick, error))

    async def _send_on(self, message: ReceivedMessage) -> None:
        try:
            tick = Tick.model_validate_json(message.body)
        except ValidationError as error:
            fields = [".".join(map(str, one["loc"])) for one in error.errors(include_input=False)]
            raise UnreadableMessage(f"unreadable tick: {', '.join(fields)}") from None
        await self._expand(tick.sweep, tick.due_at)

    async def _on_dead_letter(self, message: RabbitMessage) -> None:
        await self._write_down(failed(_received(message), DeadLettered("the broker gave it up")))

    async def _write_down(self, message: FailedMessage) -> None:
        log.warning("message written down", message_id=message.message_id, error=describe(message.error))

        async def record(connection: Connection) -> None:
            async with connection.transaction():
                await parked.record_unhandled(connection, [message], real_now())

        await self._insist(lambda: self._database.with_connection(record))

    async def _insist(self, action: Callable[[], Awaitable[None]]) -> None:
        """Until it works: database and broker come back. On a stop the message goes back to the queue."""
        failures = 0
        while True:
            try:
                await action()
            except Retryable as error:
                failures += 1
                log.warning("tick or dead letter waits", error=describe(error), failures=failures)
            else:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_seconds(failures)):
                    await self._stop.wait()
            if self._stop.is_set():
                raise NackMessage


async def _whole(message: RabbitMessage) -> RabbitMessage:
    """Bodies are read by us, so that an unreadable one is written down rather than rejected."""
    return message


def _received(message: RabbitMessage) -> ReceivedMessage:
    raw = message.raw_message
    headers = dict(raw.headers)
    account = headers.get("account")
    return ReceivedMessage(
        raw.message_id or "", raw.type or "", account if isinstance(account, str) else "", raw.body, headers=headers
    )
