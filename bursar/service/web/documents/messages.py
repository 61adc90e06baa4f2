"""An AsyncAPI document as its page shows it: where messages go, and the fields of their headers and bodies."""

from collections.abc import Iterator, Sequence

from bursar.billing.values import Value
from bursar.service.web.documents.fields import Field, Json, fields_of, resolved


class Form(Value):
    """A form of message; `name` is its body's."""

    name: str
    description: str
    headers: Sequence[Field]
    body: Sequence[Field]


class Channel(Value):
    """Where messages of some forms are published."""

    name: str
    exchange: str
    routing_key: str
    description: str
    forms: Sequence[Form]


def channels_of(document: Json) -> Sequence[Channel]:
    """The channels, in the document's order."""
    return [_channel(name, one, document) for name, one in document.get("channels", {}).items()]


def _channel(name: str, one: Json, document: Json) -> Channel:
    exchange = one.get("bindings", {}).get("amqp", {}).get("exchange", {}).get("name", "")
    return Channel(name, exchange, one.get("address") or "", one.get("description", ""), list(_forms(one, document)))


def _forms(channel: Json, document: Json) -> Iterator[Form]:
    for reference in channel.get("messages", {}).values():
        message = resolved(reference, document)
        body = resolved(message.get("payload", {}), document)
        headers = list(fields_of(message.get("headers", {}), document))
        yield Form(body.get("title", ""), body.get("description", ""), headers, list(fields_of(body, document)))
