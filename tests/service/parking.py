"""Messages parked as the lanes park them, and how rows stand."""

from datetime import datetime
from typing import Any

import asyncpg
import orjson

from bursar.billing.errors import UnreadableMessage
from bursar.db import parked
from bursar.db.connections import Connection, open_pool
from bursar.db.items import MessageCopy
from tests.billing.kiloclaw.making import NOW, event_json, subscription_json
from tests.db.deciding import REAL_NOW

SUBSCRIPTION = "customer.subscription."
# Whatever a replay may write.
TABLES = (
    "accounts", "inbox", "parked_messages", "parked_actions", "steps", "ticks", "tick_partitions", "change_log",
    "early_events", "kiloclaw_subscriptions", "kiloclaw_instances", "kiloclaw_email_log",
)  # fmt: skip


async def park(
    connection: Connection,
    message_id: str,
    body: bytes,
    message_type: str = SUBSCRIPTION + "created",
    user: str = "ada",
) -> int:
    """Park a message as unreadable, which it need not be; returns its id."""
    kind = message_type if message_type == "tick" else f"stripe.{message_type}"
    copy = MessageCopy(kind, {"account": f"user:{user}"}, body)
    message = parked.FailedMessage(message_id, f"user:{user}", copy, UnreadableMessage("a bug of ours"))
    async with connection.transaction():
        await parked.record_unhandled(connection, [message], REAL_NOW)
    parked_id: int = await connection.fetchval("SELECT id FROM parked_messages WHERE message_id = $1", message_id)
    return parked_id


async def park_subscription(
    database_url: str, message_id: str, user: str = "ada", kind: str = "created", at: datetime = NOW, **changes: Any
) -> int:
    """Park what Stripe says about the user's subscription."""
    metadata = {"type": "kiloclaw", "userId": user, "plan": "standard"}
    fields = {"id": f"sub_{user}", "customer": f"cus_{user}", "metadata": metadata} | changes
    body = event_json(SUBSCRIPTION + kind, subscription_json(**fields), at, message_id)
    async with await open_pool(database_url, max_size=1, name="test") as pool, pool.acquire() as connection:
        return await park(connection, message_id, orjson.dumps(body), SUBSCRIPTION + kind, user)


async def rows(connection: asyncpg.Connection) -> dict[str, list[str]]:
    """Every row of every table that a replay may write."""
    return {
        table: [row[0] for row in await connection.fetch(f"SELECT t::text FROM {table} t ORDER BY 1")]  # noqa: S608
        for table in TABLES
    }
