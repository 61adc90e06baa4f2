"""A Stripe event as the message that carries it to its account: from a webhook, or found later (MS-1, MS-9)."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bursar.billing.calendar import from_unix
from bursar.billing.errors import UnreadableMessage
from bursar.billing.values import Value
from bursar.handlers.messages import STRIPE, ReceivedMessage, account_of_event

MAX_ACCOUNT_BYTES = 255
EVENT_ID = re.compile(r"[\x21-\x7e]{1,200}")  # what fits AMQP's short string


class RelayedEvent(Value):
    """What the relay needs of an event that we handle. `account` may be a customer's."""

    id: str
    type: str
    account: str
    occurred_at: datetime | None

    def message(self, account: str, body: bytes, traceparent: str) -> ReceivedMessage:
        """The message for that account, the user's where the customer's is known by now."""
        return ReceivedMessage(self.id, STRIPE + self.type, account, body, self.occurred_at, traceparent)


def type_of(event: Any) -> str:  # noqa: ANN401 - parsed JSON
    """The event's type; UnreadableMessage without one."""
    event_type = event.get("type") if isinstance(event, dict) else None
    if not isinstance(event_type, str) or not event_type:
        raise UnreadableMessage("an event without a type")
    return event_type


def relayed(event: Mapping[str, Any]) -> RelayedEvent:
    """The event as it is relayed; UnreadableMessage where it cannot be (MS-6)."""
    event_type, event_id, account = type_of(event), event.get("id"), account_of_event(event)
    if not isinstance(event_id, str) or not EVENT_ID.fullmatch(event_id):
        raise UnreadableMessage("an event without an id that can be used")
    if account is None:
        raise UnreadableMessage("an event that names neither a user nor a customer")
    if not account.isprintable() or len(account.encode()) > MAX_ACCOUNT_BYTES:
        raise UnreadableMessage("an event whose user or customer is no id")
    return RelayedEvent(event_id, event_type, account, _instant(event.get("created")))


def _instant(created: Any) -> datetime | None:  # noqa: ANN401 - parsed JSON
    """The event's own instant; one that is none is for the lane to park."""
    if not isinstance(created, int):
        return None
    try:
        return from_unix(created)
    except (ValueError, OverflowError, OSError):
        return None
