"""What a content header says of a message: read here in the form in which we publish, in any other by pamqp."""

import struct
from collections.abc import Mapping
from typing import Any

from pamqp import commands as spec
from pamqp.header import ContentHeader

from bursar.billing.values import Value

FLAGS = spec.Basic.Properties.flags
OUR_FLAGS = sum(FLAGS[name] for name in ("content_type", "headers", "delivery_mode", "message_id", "message_type"))
OUR_CONTENT_TYPE = b"application/json"
OURS = struct.pack(">HB", OUR_FLAGS, len(OUR_CONTENT_TYPE)) + OUR_CONTENT_TYPE  # how our properties begin

BODY_BYTES, PROPERTIES_AT = struct.Struct(">4xQ"), 12  # the class and the weight before it say nothing
HEADERS_AT = PROPERTIES_AT + len(OURS)
DELIVERY_MODE_BYTES = 1

LENGTH, LENGTH_BYTES = struct.Struct(">I"), 4  # of the headers, or of a text among them
TEXT = ord("S")
NUMBERS = {ord(kind): struct.Struct(f">{code}") for kind, code in ("bb", "BB", "sh", "uH", "Ii", "iI", "lq", "Lq")}
UNUSUAL = (LookupError, ValueError, struct.error)


class MessageHeader(Value):
    """The body's length and the properties that lanes know; empty where missing."""

    body_bytes: int
    message_id: str
    message_type: str
    headers: Mapping[str, Any]


def message_header(content: bytes) -> MessageHeader:
    """What pamqp reads in the content of a header frame, at a fraction of its time where we published the message.

    Without the properties where these cannot be read, so that the message is written down.
    """
    try:
        return _read_as_ours(content)
    except UNUSUAL:
        return _read_by_pamqp(content)


def of_driver(header: ContentHeader) -> MessageHeader:
    """The same of a header as the driver has it."""
    properties = header.properties
    return MessageHeader(
        header.body_size, properties.message_id or "", properties.message_type or "", properties.headers or {}
    )


def _read_as_ours(content: bytes) -> MessageHeader:
    """Raises one of `UNUSUAL` for any other form. Each part is complete if there is a byte behind it; the last one may
    be cut off, which is no error to pamqp either.
    """
    if not content.startswith(OURS, PROPERTIES_AT):
        raise ValueError("not as we publish")
    at = HEADERS_AT + LENGTH_BYTES
    headers_end = at + LENGTH.unpack_from(content, HEADERS_AT)[0]
    headers = _headers(content, at, headers_end)
    id_at = headers_end + DELIVERY_MODE_BYTES + 1
    id_end = id_at + content[id_at - 1]
    type_at = id_end + 1
    type_end = type_at + content[id_end]
    (body_bytes,) = BODY_BYTES.unpack_from(content)
    return MessageHeader(body_bytes, content[id_at:id_end].decode(), content[type_at:type_end].decode(), headers)


def _headers(content: bytes, at: int, end: int) -> dict[str, Any]:
    headers: dict[str, Any] = {}
    while at < end:
        kind_at = at + 1 + content[at]
        name = content[at + 1 : kind_at].decode()
        kind, value_at = content[kind_at], kind_at + 1
        if kind == TEXT:
            text_at = value_at + LENGTH_BYTES
            at = text_at + LENGTH.unpack_from(content, value_at)[0]
            headers[name] = content[text_at:at].decode()
        else:
            number = NUMBERS[kind]
            at = value_at + number.size
            headers[name] = number.unpack_from(content, value_at)[0]
    if at != end:
        raise ValueError("a header longer than all of them")
    return headers


def _read_by_pamqp(content: bytes) -> MessageHeader:
    header = ContentHeader()
    try:
        header.unmarshal(content)
    except (ValueError, struct.error, RecursionError):
        header.properties = spec.Basic.Properties()
    return of_driver(header)
