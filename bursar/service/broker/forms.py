"""The forms of the messages on the wire, version 1; read tolerantly: unknown fields and headers are ignored (MS-13)."""

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1
TICK_TYPE = "tick"


class Headers(BaseModel):
    """Headers of every message on `bursar.accounts`, beside the AMQP properties `message_id` and `type`."""

    account: str | None = Field(None, description="Account key: `user:{id}` or `customer:{stripe customer id}`.")
    occurred_at: datetime | None = Field(None, description="When it happened at its source.")
    traceparent: str | None = Field(None, description="W3C trace context.")
    schema_version: int = Field(SCHEMA_VERSION, alias="schema", description="Version of the form.")


class StripeObject(BaseModel):
    """`data` of a Stripe event."""

    model_config = ConfigDict(extra="allow")

    object: dict[str, Any] = Field(description="The object that the event is about, as Stripe sent it.")


class StripeEvent(BaseModel):
    """Body of a message of type `stripe.{event type}`: the event as Stripe sent it. `message_id`: the event's id."""

    model_config = ConfigDict(extra="allow")

    id: str
    type: str
    created: int = Field(description="Seconds since 1970.")
    data: StripeObject


class Tick(BaseModel):
    """A tick for all partitions. `message_id`: `tick:{sweep}:{due_at}`."""

    sweep: str
    due_at: datetime


class PartitionTick(Tick):
    """A tick for one partition, type `tick`. `message_id`: `tick:{sweep}:{due_at}:{partition}`."""

    tick_id: int
    partition: int


def tick_message_id(sweep: str, due_at: datetime) -> str:
    """By what a second tick of the same sweep and instant is known (MS-8)."""
    return f"tick:{sweep}:{due_at.astimezone(UTC).isoformat()}"
