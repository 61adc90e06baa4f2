"""A connection whose deliveries go to the lanes straight from the socket; everything else is the driver's.

The driver hands each of a message's three frames through two queues and makes a task of it. docs/decisions, 0021.
"""

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aio_pika
from aiormq.abc import AbstractChannel
from aiormq.connection import TransportFactory
from pamqp import commands as spec
from pamqp.constants import FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD
from yarl import URL

from bursar.handlers.messages import ReceivedMessage
from bursar.service.broker.properties import MessageHeader, message_header
from bursar.service.broker.reading import received

MAX_FRAME_BYTES = 1 << 22  # RabbitMQ's are 128 kB at most; a longer one is the driver's to refuse
SIGN_OF_LIFE_SECONDS = 1.0  # the driver gives a connection up on which it has seen nothing for 18 s
DEFAULT_PORT = 5672

HEARTBEAT = struct.pack(">BHIB", FRAME_HEARTBEAT, 0, 0, FRAME_END)
FRAME_START, FRAME_START_BYTES = struct.Struct(">BHI"), 7  # type, channel, length of what follows
FRAME_TYPES = frozenset({FRAME_METHOD, FRAME_HEADER, FRAME_BODY, FRAME_HEARTBEAT})
DELIVER = struct.pack(">I", spec.Basic.Deliver.index)
CONSUMER_TAG_AT = len(DELIVER)

Take = Callable[[int, ReceivedMessage], None]  # (delivery tag, message)
Takers = dict[int, tuple[AbstractChannel, Take]]  # by the number of the channel


@dataclass(slots=True)
class _Arriving:
    """A message of which more frames are to come."""

    tag: int
    header: MessageHeader | None = None
    parts: list[bytes] = field(default_factory=list)
    missing: int = 0


class DeliveryReader(asyncio.StreamReader):
    """What the driver reads from: the bytes of the broker without the deliveries on the channels in `takers`."""

    def __init__(self, takers: Takers) -> None:
        super().__init__()
        self._takers = takers
        self._arriving: dict[int, _Arriving] = {}
        self._rest = b""
        self._passed_at = 0.0
        self._is_foreign = False

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]  # uvloop gives bytes
        """Take the whole frames among the bytes; a frame that is cut off waits for its end."""
        data = self._rest + data if self._rest else bytes(data)
        passed, position = [], 0
        while not self._is_foreign and len(data) - position >= FRAME_START_BYTES:
            kind, channel, length = FRAME_START.unpack_from(data, position)
            content_at = position + FRAME_START_BYTES
            end = content_at + length
            self._is_foreign = kind not in FRAME_TYPES or length > MAX_FRAME_BYTES
            if self._is_foreign or end >= len(data):
                break
            if not (channel in self._takers and self._take(kind, channel, data[content_at:end])):
                passed.append(data[position : end + 1])
            position = end + 1
        self._rest = b"" if self._is_foreign else data[position:]
        passed += [data[position:]] if self._is_foreign else []
        self._pass_on(b"".join(passed))

    def feed_eof(self) -> None:
        """The driver is told what was cut off, too."""
        rest, self._rest = self._rest, b""
        if rest:
            super().feed_data(rest)
        super().feed_eof()

    def _pass_on(self, data: bytes) -> None:
        """A broker that delivers sends no heartbeats: in their place the driver gets one of ours now and then."""
        now = asyncio.get_running_loop().time()
        if not data and now - self._passed_at >= SIGN_OF_LIFE_SECONDS:
            data = HEARTBEAT
        if data:
            self._passed_at = now
            super().feed_data(data)

    def _take(self, kind: int, channel: int, content: bytes) -> bool:
        """Whether the frame was part of a delivery."""
        if kind == FRAME_METHOD:
            if not content.startswith(DELIVER):
                return False
            self._arriving[channel] = _Arriving(_tag_of(content))
            return True
        arriving = self._arriving.get(channel)
        if arriving is None:
            return False
        if kind == FRAME_HEADER:
            arriving.header = message_header(content)
            arriving.missing = arriving.header.body_bytes
        else:
            arriving.parts.append(content)
            arriving.missing -= len(content)
        if arriving.header and arriving.missing <= 0:
            del self._arriving[channel]
            _, take = self._takers[channel]
            take(arriving.tag, received(arriving.header, b"".join(arriving.parts)))
        return True


class Deliveries(TransportFactory):
    """Makes the connection's transport, and knows which channels' deliveries go where."""

    def __init__(self) -> None:
        self.takers: Takers = {}

    def give(self, channel: AbstractChannel, take: Take) -> None:
        """Have `take` called with every delivery on the channel, in their order, from now until it closes."""
        self.takers[channel.number] = (channel, take)
        channel.closing.add_done_callback(lambda _: self._forget(channel))

    def _forget(self, channel: AbstractChannel) -> None:
        """Unless another channel bears its number by now."""
        known = self.takers.get(channel.number)
        if known and known[0] is channel:
            del self.takers[channel.number]

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:  # noqa: ANN401 - the driver's
        """As the driver's own factories do; with TLS for `amqps`."""
        provider = kwargs.pop("ssl_context_provider")
        context = await provider.get_context() if url.scheme == "amqps" else None
        loop = asyncio.get_running_loop()
        reader = DeliveryReader(self.takers)
        protocol = asyncio.StreamReaderProtocol(reader)
        host, port = url.host or "localhost", url.port or DEFAULT_PORT
        transport, _ = await loop.create_connection(lambda: protocol, host, port, ssl=context, **kwargs)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class LaneConnection(aio_pika.Connection):
    """A connection with `deliveries`."""

    def __init__(self, url: URL, **kwargs: Any) -> None:  # noqa: ANN401 - aio-pika's
        super().__init__(url, **kwargs)
        self.deliveries = Deliveries()
        self.kwargs["transport_factory"] = self.deliveries


def _tag_of(content: bytes) -> int:
    """The delivery's tag follows the consumer's, which is as long as its first byte says."""
    tag_at = CONSUMER_TAG_AT + 1 + content[CONSUMER_TAG_AT]
    return int.from_bytes(content[tag_at : tag_at + 8], "big")
