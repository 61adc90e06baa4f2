"""The whole service on real servers, between a stand-in for Stripe, an instance API and a mail sink; its clock in hand.

A story moves from instant to instant: Stripe acts, its webhooks arrive (shuffled, every fifth twice), the hour's tick
runs, and nothing goes on before all of it is through.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
from aiosmtpd.smtp import SMTP

from bursar.service.demo.instance_api import InstanceApi
from bursar.service.demo.mail_sink import MailSink
from bursar.service.demo.product import Product
from bursar.service.demo.quiet import QuietWatch, quiet_watch
from bursar.service.demo.standing_in import LOOPBACK
from bursar.service.processes.web import run_web
from bursar.service.processes.worker import run_worker
from bursar.service.servers.probes import free_port
from bursar.service.settings import Settings
from bursar.service.stripe_stand_in.world import AfterDunning, Policy
from tests.service.demo.serving import serving
from tests.service.processes.running import until
from tests.service.web.serving import settings
from tests.stripe.stand_in import WEBHOOK_SECRET, StripeStandIn, stripe_stand_in

PARTITIONS = 4  # fewer queues to declare; the number changes nothing in a story
API_SECRET, CRON_SECRET = "api-secret", "cron-secret"
DOUBLED = 0.2
DRAIN_SECONDS = 10.0
STORY_SECONDS = 110.0


@dataclass
class World:
    """What a story can do and see."""

    stripe: StripeStandIn
    product: Product
    client: httpx.AsyncClient
    connection: asyncpg.Connection
    mail_sink: MailSink
    instance_api: InstanceApi
    watch: QuietWatch
    seed: int = 7

    @property
    def now(self) -> datetime:
        """Business time and Stripe's."""
        return datetime.fromtimestamp(self.stripe.world.now, UTC)

    async def at(self, now: datetime) -> dict[str, Any]:
        """Business time and Stripe's move to that instant, and all that follows is done. Returns the tick's counts."""
        await self.product.set_clock(now)
        await self.stripe.advance(now)
        await self.hear_stripe()
        counts = await self.product.run_hourly_tick(now)
        await self.watch.wait_until_settled()
        await self.hear_stripe()
        return counts

    async def hear_stripe(self) -> None:
        """Deliver the webhooks that wait, in any order and some of them twice, until nothing follows from them."""
        while await self.stripe.deliver_to(self._post_webhook, shuffle=self.seed, doubled=DOUBLED):
            await self.watch.wait()

    async def command(self, user: str, name: str, body: dict[str, Any] | None = None, key: str | None = None) -> Any:
        """`POST /v1/users/{user}/kiloclaw/{name}`: its answer, and then its webhooks."""
        answer = await self.post(user, name, body, key)
        await self.hear_stripe()
        return answer

    async def post(self, user: str, name: str, body: dict[str, Any] | None = None, key: str | None = None) -> Any:
        headers = {"Idempotency-Key": key} if key else {}
        answer = await self.client.post(f"/v1/users/{user}/kiloclaw/{name}", json=body or {}, headers=headers)
        return answer.status_code, answer.json()

    async def get(self, user: str, name: str) -> Any:
        answer = await self.client.get(f"/v1/users/{user}/kiloclaw/{name}")
        return answer.json() | {"http_status": answer.status_code}

    async def row(self, user: str) -> dict[str, Any]:
        """The user's row; empty without one."""
        row = await self.connection.fetchrow("SELECT * FROM kiloclaw_subscriptions WHERE user_id = $1", user)
        return dict(row) if row else {}

    def mails(self, user: str) -> list[str]:
        """The types of the mails that reached the user, in order."""
        return [mail["type"] for mail in self.mail_sink.mails_taken if mail["user"] == user]

    def instance(self, instance_id: str) -> str:
        """How the instance stands at the instance API."""
        return self.instance_api.state_of(instance_id)

    async def _post_webhook(self, body: bytes, headers: dict[str, str]) -> int:
        return (await self.client.post("/webhooks/stripe", content=body, headers=headers)).status_code


@asynccontextmanager
async def a_world(database_url: str, amqp_url: str, now: datetime, **changes: Any) -> AsyncIterator[World]:
    """A running service that knows nobody yet, at that instant; settings may be changed."""
    async with AsyncExitStack() as stack:
        stripe = await stack.enter_async_context(
            stripe_stand_in(now=now, policy=Policy(after_dunning=AfterDunning.UNPAID))
        )
        sink, instances = MailSink(), InstanceApi(API_SECRET)
        smtp_port = await stack.enter_async_context(_smtp(sink))
        instances_url = await stack.enter_async_context(serving(instances.app(), STORY_SECONDS))
        chosen = _settings(database_url, amqp_url, stripe, instances_url, smtp_port, **changes)
        client = await stack.enter_async_context(_service(chosen))
        instances_client = await stack.enter_async_context(httpx.AsyncClient(base_url=instances_url))
        connection = await asyncpg.connect(database_url)
        stack.push_async_callback(connection.close)
        watch = await stack.enter_async_context(quiet_watch(database_url, amqp_url, PARTITIONS))
        product = Product(client, instances_client, API_SECRET, CRON_SECRET)
        await product.set_clock(now)
        yield World(stripe, product, client, connection, sink, instances, watch)


def _settings(
    database_url: str, amqp_url: str, stripe: StripeStandIn, instances_url: str, smtp_port: int, **changes: Any
) -> Settings:
    return settings(
        database_url=database_url,
        amqp_url=amqp_url,
        stripe_api_base=stripe.base_url,
        stripe_webhook_secret=WEBHOOK_SECRET,
        stripe_kiloclaw_standard_price_id="price_standard",
        stripe_kiloclaw_commit_price_id="price_commit",
        kiloclaw_api_url=instances_url,
        kiloclaw_internal_api_secret=API_SECRET,
        cron_secret=CRON_SECRET,
        email_provider="smtp",
        email_from="KiloClaw <billing@example.com>",
        smtp_host=LOOPBACK,
        smtp_port=smtp_port,
        smtp_starttls=False,
        bursar_partitions=PARTITIONS,
        bursar_web_host=LOOPBACK,
        bursar_web_port=free_port(),
        bursar_health_port=0,
        bursar_drain_seconds=DRAIN_SECONDS,
        **changes,
    )


@asynccontextmanager
async def _service(chosen: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """`bursar web` and `bursar worker`, in this process; ready."""
    stop = asyncio.Event()
    url = f"http://{LOOPBACK}:{chosen.bursar_web_port}"
    async with asyncio.TaskGroup() as group, httpx.AsyncClient(base_url=url, timeout=60.0) as client:
        running = [group.create_task(run_web(chosen, stop)), group.create_task(run_worker(chosen, stop))]
        client.headers["Authorization"] = f"Bearer {API_SECRET}"

        async def ready() -> bool:
            for task in running:
                if task.done():
                    task.result()
            try:
                return (await client.get("/readyz")).is_success
            except httpx.TransportError:
                return False

        try:
            await until(ready)
            yield client
        finally:
            stop.set()


@asynccontextmanager
async def _smtp(sink: MailSink) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(sink, hostname=LOOPBACK, enable_SMTPUTF8=True, loop=loop), LOOPBACK, 0
    )
    async with server:
        port: int = server.sockets[0].getsockname()[1]
        yield port
