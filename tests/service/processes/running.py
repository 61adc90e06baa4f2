"""Real processes of the service on the servers of a test, and what they handle."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
from tenacity import AsyncRetrying, retry_if_result, stop_after_delay, wait_fixed

from bursar.handlers.messages import ReceivedMessage

CHECKOUT = Path(__file__).parents[3]
DEADLINE_SECONDS = 60.0
POLL_SECONDS = 0.05


def environment_of(database_url: str, amqp_url: str, **changes: str) -> dict[str, str]:
    """The whole environment of a process: nothing of ours but this."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(CHECKOUT),
        "DATABASE_URL": database_url,
        "AMQP_URL": amqp_url,
        "STRIPE_SECRET_KEY": "sk_test_1",
        "STRIPE_API_BASE": "http://127.0.0.1:9",
        "STRIPE_WEBHOOK_SECRET": "whsec_1",
        "STRIPE_KILOCLAW_STANDARD_PRICE_ID": "price_s",
        "STRIPE_KILOCLAW_COMMIT_PRICE_ID": "price_c",
        "STRIPE_KILOCLAW_EARLYBIRD_PRICE_ID": "price_e",
        "KILOCLAW_API_URL": "http://127.0.0.1:9",
        "KILOCLAW_INTERNAL_API_SECRET": "internal",
        "CRON_SECRET": "cron",
        "APP_URL": "https://app.example.com",
        "EMAIL_PROVIDER": "none",
        "BURSAR_HEALTH_PORT": "0",
        "BURSAR_WEB_PORT": "0",
        "BURSAR_DRAIN_SECONDS": "15",
        **changes,
    }


@asynccontextmanager
async def running(
    command: str, environment: dict[str, str], folder: Path | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`bursar COMMAND`, killed in the end where it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bursar.service.cli", command, env=environment, cwd=folder, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def said(process: asyncio.subprocess.Process, event: str) -> dict[str, str]:
    """The next line of its log with that event."""
    assert process.stderr is not None
    last = b""
    async with asyncio.timeout(DEADLINE_SECONDS):
        async for line in process.stderr:
            last = line
            fields: dict[str, str] = orjson.loads(line) if line.startswith(b"{") else {}
            if fields.get("event") == event:
                return fields
    raise AssertionError(f"it ended without saying {event!r}; its last words: {last.decode()}")


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Return once it holds; fails after a minute."""
    await AsyncRetrying(
        retry=retry_if_result(lambda held: not held),
        wait=wait_fixed(POLL_SECONDS),
        stop=stop_after_delay(DEADLINE_SECONDS),
    )(holds)


def invoice_paid(number: int, users: int) -> ReceivedMessage:
    """A message of one of so many users that is handled without asking anybody."""
    user = f"u{number % users}"
    body = {
        "id": f"evt_{number}",
        "type": "invoice.paid",
        "created": 1_780_000_000 + number,
        "data": {"object": {"id": f"in_{number}", "object": "invoice", "customer": f"cus_{user}", "parent": None}},
    }
    return ReceivedMessage(f"evt_{number}", "stripe.invoice.paid", f"user:{user}", orjson.dumps(body))
