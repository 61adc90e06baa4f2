"""The AsyncAPI document of every form of message, generated from the code that sends and reads them (MS-13)."""

from typing import Any

import orjson
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange
from faststream.specification import AsyncAPI
from pydantic import BaseModel

from bursar.handlers.messages import HANDLERS
from bursar.service.broker import topology
from bursar.service.broker.forms import SCHEMA_VERSION, Headers, PartitionTick, StripeEvent, Tick

DESCRIPTION = (
    "Messages that Bursar takes; an outside relay or scheduler may send the same ones. Publish persistent, mandatory "
    "and with confirms. The AMQP property `message_id` is what a second delivery is known by, `type` says which form "
    "the body has. Fields and headers that are not listed are ignored."
)


def asyncapi_document() -> dict[str, Any]:
    """The document, version 3.0 of AsyncAPI. Nothing is connected for it."""
    broker = RabbitBroker("amqp://broker:5672/", specification_url="amqp://broker:5672/", logger=None)
    _declare_forms(broker)
    specification = AsyncAPI(broker, title="Bursar messages", version=f"{SCHEMA_VERSION}.0.0", description=DESCRIPTION)
    document: dict[str, Any] = orjson.loads(specification.to_specification().to_json())
    headers = Headers.model_json_schema(by_alias=True)
    for message in document["components"]["messages"].values():
        message["headers"] = headers
        message["contentType"] = "application/json"
    return document


def _declare_forms(broker: RabbitBroker) -> None:
    types = ", ".join(f"`{name}`" for name in sorted(HANDLERS))
    _declare(
        broker,
        StripeEvent,
        "Stripe events",
        topology.ACCOUNTS,
        "p00 ... p31",
        f"Routing key: `p` and two digits, crc32 of the header `account` modulo the number of partitions (32). "
        f"Types: {types}.",
    )
    _declare(
        broker,
        PartitionTick,
        "Ticks of a partition",
        topology.ACCOUNTS,
        "p00 ... p31",
        "Sent for each tick, with type `tick`.",
    )
    _declare(broker, Tick, "Ticks", topology.TICKS, topology.TICKS, "A sweep shall run on all partitions (MS-8).")


def _declare(
    broker: RabbitBroker, form: type[BaseModel], title: str, exchange: str, routing_key: str, description: str
) -> None:
    declared = RabbitExchange(exchange, type=ExchangeType.DIRECT, durable=True)
    broker.publisher(
        exchange=declared, routing_key=routing_key, title=title, description=description, schema=form, persist=True
    )
