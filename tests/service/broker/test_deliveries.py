import asyncio
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pamqp.frame
import pytest
from pamqp import commands as spec
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from bursar.handlers.messages import ReceivedMessage
from bursar.service.broker.deliveries import HEARTBEAT, Deliveries, DeliveryReader

if TYPE_CHECKING:
    from aiormq.abc import AbstractChannel

OURS, ANOTHERS = 3, 4
FRAME_BYTES = 100


class Lane:
    """Notes what it is given. Its channel is closed by `close`."""

    def __init__(self, deliveries: Deliveries, number: int = OURS) -> None:
        self.taken: list[tuple[int, ReceivedMessage]] = []
        self.closing = asyncio.get_running_loop().create_future()
        channel = SimpleNamespace(number=number, closing=self.closing)
        deliveries.give(cast("AbstractChannel", channel), self._take)

    async def close(self) -> None:
        self.closing.set_result(None)
        await asyncio.sleep(0)

    def _take(self, tag: int, message: ReceivedMessage) -> None:
        self.taken.append((tag, message))


def frames(channel: int, tag: int, body: bytes, headers: dict[str, Any] | None = None) -> list[bytes]:
    """A delivery as the broker sends it: a body that is longer than a frame comes in several."""
    properties = spec.Basic.Properties("application/json", None, headers or {}, 2)
    properties.message_id, properties.message_type = f"evt_{tag}", "stripe.x"
    parts = [ContentBody(body[at : at + FRAME_BYTES]) for at in range(0, len(body), FRAME_BYTES)]
    delivery = spec.Basic.Deliver("consumer", tag, routing_key="p03", exchange="bursar.accounts")
    all_frames: list[Any] = [delivery, ContentHeader(0, len(body), properties), *parts]
    return [pamqp.frame.marshal(one, channel) for one in all_frames]


def chunks(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


async def passed(reader: asyncio.StreamReader) -> bytes:
    reader.feed_eof()
    return await reader.read()


async def reading(deliveries: Deliveries, data: bytes, size: int) -> bytes:
    """What the driver gets of bytes that come in so small chunks."""
    reader = DeliveryReader(deliveries.takers)
    for chunk in chunks(data, size):
        reader.feed_data(chunk)
    return (await passed(reader)).replace(HEARTBEAT, b"")


def told(taken: Sequence[tuple[int, ReceivedMessage]]) -> list[tuple[int, str, bytes]]:
    return [(tag, message.message_id, message.body) for tag, message in taken]


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
async def test_deliveries_go_to_their_lane_and_the_rest_to_the_driver(size: int) -> None:
    deliveries = Deliveries()
    lane, long_body = Lane(deliveries), bytes(range(250))
    others = frames(ANOTHERS, 1, b"another's")
    ok = pamqp.frame.marshal(spec.Basic.ConsumeOk("consumer"), OURS)
    first, second, empty = frames(OURS, 1, b"body"), frames(OURS, 2, long_body), frames(OURS, 3, b"")
    data = [ok, *first, second[0], others[0], second[1], others[1], *second[2:], *others[2:], *empty]
    assert await reading(deliveries, b"".join(data), size) == b"".join([ok, *others])
    assert told(lane.taken) == [(1, "evt_1", b"body"), (2, "evt_2", long_body), (3, "evt_3", b"")]


async def test_a_closed_channel_takes_nothing_and_its_number_may_be_anothers() -> None:
    deliveries = Deliveries()
    closed = Lane(deliveries)
    await closed.close()
    unwanted = b"".join(frames(OURS, 1, b"late"))
    assert await reading(deliveries, unwanted, 50) == unwanted

    first, second = Lane(deliveries), Lane(deliveries)
    await first.close()
    assert await reading(deliveries, unwanted, 50) == b""
    assert (len(closed.taken), len(first.taken), len(second.taken)) == (0, 0, 1)


async def test_a_driver_that_is_sent_deliveries_only_still_sees_that_the_broker_lives() -> None:
    deliveries = Deliveries()
    Lane(deliveries)
    reader = DeliveryReader(deliveries.takers)
    for tag in range(1, 4):
        reader.feed_data(b"".join(frames(OURS, tag, b"body")))
    told_to_driver = await passed(reader)
    assert told_to_driver == HEARTBEAT == pamqp.frame.marshal(Heartbeat(), 0)


async def test_what_is_no_frame_is_the_drivers_to_complain_about() -> None:
    refusal = b"AMQP\x00\x00\x09\x01"
    assert await reading(Deliveries(), refusal, 3) == refusal
    cut_off = frames(OURS, 1, b"body")[0][:-3]
    assert await reading(Deliveries(), cut_off, 5) == cut_off


async def test_ms_6_a_message_whose_properties_cannot_be_read_is_delivered_without_them() -> None:
    deliveries = Deliveries()
    lane = Lane(deliveries)
    delivery, header, body = frames(OURS, 1, b"body", {"account": "user:1"})
    at = header.index(b"account") + len(b"account")
    broken = header[:at] + b"\xff" + header[at + 1 :]  # a type of value that there is not
    assert await reading(deliveries, delivery + broken + body, 1_000) == b""
    assert told(lane.taken) == [(1, "", b"body")]
