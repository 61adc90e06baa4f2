"""Ticks as a lane hands them on."""

from datetime import datetime

import orjson

from bursar.handlers.messages import ReceivedMessage
from tests.billing.kiloclaw.making import DAY, NOW

OVER = NOW + 31 * DAY  # a trial that began now is over
PARTITION = 7


def tick_message(sweep: str, due_at: datetime = OVER, partition: int = PARTITION) -> ReceivedMessage:
    body = orjson.dumps({"tick_id": 1, "sweep": sweep, "due_at": due_at, "partition": partition})
    return ReceivedMessage(f"tick:{sweep}:{due_at.isoformat()}:{partition}", "tick", "", body)
