"""The product's side of the service's HTTP API, as the demo plays it: users, trials, instances, clock and ticks."""

from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx
from tenacity import AsyncRetrying, RetryError, retry_if_result, stop_after_delay, wait_fixed

from bursar.billing.values import Value

TICK_SECONDS = 120.0
POLL_SECONDS = 0.05


class DemoFailedError(RuntimeError):
    """The service answered what the demo cannot go on with."""


class Product(Value):
    """`service` speaks to the service, `instances` to the instance API; each client has its base address."""

    service: httpx.AsyncClient
    instances: httpx.AsyncClient
    api_secret: str
    cron_secret: str

    async def put_user(self, user_id: str, stripe_customer_id: str | None) -> None:
        body = {"email": f"{user_id}@example.com"}
        if stripe_customer_id:
            body["stripe_customer_id"] = stripe_customer_id
        await self._ask("PUT", f"/v1/users/{quote(user_id, safe='')}", self.api_secret, body)

    async def start_trial(self, user_id: str) -> None:
        await self._ask("POST", f"/v1/users/{quote(user_id, safe='')}/kiloclaw/trial", self.api_secret, {})

    async def provision(self, user_id: str, instance_id: str) -> None:
        """Make the instance, then tell the service (KC-12)."""
        made = await self.instances.post(f"/instances/{instance_id}", headers=_bearer(self.api_secret))
        _expect_success(made)
        path = f"/v1/users/{quote(user_id, safe='')}/kiloclaw/provision"
        await self._ask("POST", path, self.api_secret, {"instance_id": instance_id})

    async def set_clock(self, now: datetime) -> None:
        await self._ask("PUT", "/v1/ops/clock", self.api_secret, {"now": now.isoformat()})

    async def run_hourly_tick(self, due_at: datetime) -> dict[str, Any]:
        """Post the tick and wait until it is done: its counts per sweep (KC-80)."""
        tick = await self._ask("POST", "/v1/ticks/hourly", self.cron_secret, {"due_at": due_at.isoformat()})
        path = f"/v1/ticks/{quote(str(tick['id']), safe='')}"
        polling = AsyncRetrying(
            retry=retry_if_result(lambda found: found["state"] == "running"),
            wait=wait_fixed(POLL_SECONDS),
            stop=stop_after_delay(TICK_SECONDS),
        )
        try:
            counts: dict[str, Any] = await polling(self._ask, "GET", path, self.cron_secret)
        except RetryError:
            raise DemoFailedError(f"a tick was not done within {TICK_SECONDS:.0f} s") from None
        return counts

    async def _ask(self, method: str, path: str, secret: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = await self.service.request(method, path, json=body, headers=_bearer(secret))
        _expect_success(answer)
        said: dict[str, Any] = answer.json() if answer.content else {}
        return said


def _bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def _expect_success(answer: httpx.Response) -> None:
    if not answer.is_success:
        asked = answer.request
        raise DemoFailedError(f"{asked.method} {asked.url.path} was answered {answer.status_code}: {answer.text[:300]}")
