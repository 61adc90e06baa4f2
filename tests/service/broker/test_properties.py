import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pamqp import commands as spec
from pamqp.header import ContentHeader

from bursar.service.broker.properties import NUMBERS, MessageHeader, _read_as_ours, _read_by_pamqp, message_header
from bursar.service.broker.publisher import _properties

BODY_BYTES = 3_500
REDELIVERED = b"\x10x-delivery-countl" + struct.pack(">q", 2)  # as RabbitMQ adds it
HEADERS = {"account": "user:ü", "schema": 1, "traceparent": ""}


def content(properties: spec.Basic.Properties) -> bytes:
    return ContentHeader(0, BODY_BYTES, properties).marshal()


def with_headers(table: bytes, headers_bytes: int | None = None) -> bytes:
    """As we publish, with these headers, which say to be so long."""
    length = struct.pack(">I", len(table) if headers_bytes is None else headers_bytes)
    empty = content(_properties("evt_1", "stripe.x", {"a": 1}))
    before, after = empty.split(b"\x00\x00\x00\x04\x01ab\x01")
    return before + length + table + after


OURS = content(_properties("evt_1", "stripe.x", HEADERS))

short_text = st.text(max_size=20)
instants = st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds
kinds = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.text(max_size=300),
    st.binary(max_size=20).map(bytearray),
    st.floats(width=32),  # it writes no wider ones
    st.just(Decimal("12.34")),
    instants,
)
tables = st.dictionaries(
    short_text,
    st.recursive(kinds, lambda one: st.one_of(st.lists(one, max_size=3), st.dictionaries(short_text, one, max_size=3))),
    max_size=5,
)
usual_tables = st.dictionaries(short_text, st.one_of(st.integers(-(2**63), 2**63 - 1), st.text(max_size=300)))
as_we_publish = st.builds(_properties, short_text, short_text, usual_tables)
any_properties = st.builds(
    spec.Basic.Properties,
    content_type=st.one_of(st.none(), st.just("application/json"), short_text),
    content_encoding=st.one_of(st.none(), short_text),
    headers=st.one_of(st.none(), tables),
    delivery_mode=st.sampled_from([None, 1, 2]),
    priority=st.one_of(st.none(), st.integers(0, 9)),
    correlation_id=st.one_of(st.none(), short_text),
    message_id=st.one_of(st.none(), short_text),
    timestamp=st.one_of(st.none(), instants),
    message_type=st.one_of(st.none(), short_text),
    app_id=st.one_of(st.none(), short_text),
)


def assert_the_same(data: bytes) -> None:
    """By their text: it tells numbers from truths, and not a number equals nothing."""
    assert repr(message_header(data)) == repr(_read_by_pamqp(data)), data


@given(st.one_of(as_we_publish, any_properties), st.integers(0, 40))
def test_ms_6_properties_are_read_as_pamqp_reads_them(properties: spec.Basic.Properties, cut: int) -> None:
    whole = content(properties)
    assert_the_same(whole)
    assert_the_same(whole[: len(whole) - cut])


@given(st.binary(max_size=40), st.one_of(st.none(), st.integers(0, 60)))
@example(b"\x01aS\x00\x00\x00\x02", None)  # a text that reaches beyond the headers
@example(b"\x01aS\xff\xff\xff\xff", None)
@example(b"\x01aI\x00", None)
@example(b"\x01a", None)
@example(b"\x05a", None)
@example(b"\x01ab\x01\x01ab\x02", None)  # twice the same
def test_ms_6_headers_that_are_none_are_read_as_pamqp_reads_them(table: bytes, headers_bytes: int | None) -> None:
    assert_the_same(with_headers(table, headers_bytes))


def test_ms_6_a_header_with_any_byte_changed_or_cut_off_is_read_as_pamqp_reads_it() -> None:
    for at in range(len(OURS)):
        assert_the_same(OURS[:at])
        for byte in range(256):
            assert_the_same(OURS[:at] + bytes([byte]) + OURS[at + 1 :])


@pytest.mark.parametrize("kind", NUMBERS, ids=chr)
def test_numbers_of_every_kind_are_read_as_pamqp_reads_them(kind: int) -> None:
    for first in (b"\x00", b"\x7f", b"\x80", b"\xff"):
        data = with_headers(b"\x01n" + bytes([kind]) + first.ljust(NUMBERS[kind].size, b"\x01"))
        assert repr(_read_as_ours(data)) == repr(_read_by_pamqp(data))


@pytest.mark.parametrize("headers", [HEADERS, {}, {"schema": 1, "more": 2**40}])
def test_what_we_publish_is_read_without_pamqp(headers: dict[str, Any]) -> None:
    read = _read_as_ours(content(_properties("evt_1", "stripe.x", headers)))
    assert read == MessageHeader(BODY_BYTES, "evt_1", "stripe.x", headers)


def test_what_the_broker_delivers_again_is_read_without_pamqp() -> None:
    assert _read_as_ours(with_headers(REDELIVERED)).headers == {"x-delivery-count": 2}


def test_ms_6_headers_nested_too_deeply_leave_a_message_that_can_be_written_down() -> None:
    table = b""
    for _ in range(5_000):
        table = b"A" + struct.pack(">I", len(table)) + table

    assert message_header(with_headers(b"\x01x" + table)) == MessageHeader(BODY_BYTES, "", "", {})
