"""The demo's process tree: private servers, the stand-ins and the service, each process of its own."""

import asyncio
import os
import secrets
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from rich.console import Console
from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, stop_after_delay, wait_fixed

from bursar.db.migrate import migrate
from bursar.service.demo.generator import generated_lives
from bursar.service.demo.lives import RECORDED, Life, price_environment, recorded_lives
from bursar.service.demo.outcome import Outcome
from bursar.service.demo.quiet import PARTITIONS, quiet_watch
from bursar.service.demo.run import Plan, World, run_demo
from bursar.service.demo.stand_ins import StandIns, running_stand_ins
from bursar.service.processes.children import Child
from bursar.service.processes.development import server_settings
from bursar.service.processes.lifetime import Part, run_parts
from bursar.service.processes.starting import StartError, require_unused
from bursar.service.servers import Servers, running_servers

LOOPBACK = "127.0.0.1"
READY_SECONDS = 60.0
DRAIN_SECONDS = 5.0
POLL_SECONDS = 0.1


def run_demonstration(events: Path | None, console: Console) -> Outcome:
    """Start everything on empty servers, play, judge, and stop everything."""
    lives = recorded_lives(events or RECORDED) or generated_lives()
    with running_servers("demo", durable=False) as servers, tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_play(servers, lives, Path(folder), console))


async def _play(servers: Servers, lives: Sequence[Life], folder: Path, console: Console) -> Outcome:
    own = _own_secrets()
    async with running_stand_ins(
        lives,
        folder,
        instances_secret=own["KILOCLAW_INTERNAL_API_SECRET"],
        stripe_key=own["STRIPE_SECRET_KEY"],
    ) as stand_ins:
        settings = {**own, **server_settings(servers), **price_environment(lives), **_stand_in_settings(stand_ins)}
        world = _world(settings, stand_ins)
        await migrate(servers.database_url)
        await require_unused(servers.database_url, "the demo")
        async with (
            _running_service({**os.environ, **settings}, world.web_url),
            quiet_watch(servers.database_url, servers.amqp_url) as watch,
        ):
            return await run_demo(
                world,
                Plan(lives),
                wait_until_quiet=watch.wait,
                wait_until_settled=watch.wait_until_settled,
                console=console,
            )


@asynccontextmanager
async def _running_service(environment: Mapping[str, str], web_url: str) -> AsyncIterator[None]:
    stop = asyncio.Event()
    parts = [Part.of(name, Child((name,), environment, DRAIN_SECONDS).run) for name in ("web", "worker", "scheduler")]
    running = asyncio.create_task(run_parts(parts, stop, 3 * DRAIN_SECONDS))
    try:
        await _wait_until_ready(web_url)
        yield
    finally:
        stop.set()
        await running


async def _wait_until_ready(web_url: str) -> None:
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(httpx.HTTPError),
        wait=wait_fixed(POLL_SECONDS),
        stop=stop_after_delay(READY_SECONDS),
    )
    async with httpx.AsyncClient(base_url=web_url) as client:

        async def ask() -> None:
            (await client.get("/readyz")).raise_for_status()

        try:
            await retrying(ask)
        except RetryError:
            raise StartError(f"The demo's service was not ready within {READY_SECONDS:.0f} s; see its log.") from None


def _own_secrets() -> dict[str, str]:
    return {
        "STRIPE_SECRET_KEY": f"sk_test_{secrets.token_hex(16)}",
        "STRIPE_WEBHOOK_SECRET": f"whsec_{secrets.token_hex(16)}",
        "STRIPE_KILOCLAW_EARLYBIRD_PRICE_ID": "price_earlybird",
        "KILOCLAW_INTERNAL_API_SECRET": secrets.token_urlsafe(24),
        "CRON_SECRET": secrets.token_urlsafe(24),
    }


def _stand_in_settings(stand_ins: StandIns) -> dict[str, str]:
    return {
        "STRIPE_API_BASE": stand_ins.stripe_url,
        "KILOCLAW_API_URL": stand_ins.instances_url,
        "APP_URL": "https://app.example.com",
        "EMAIL_PROVIDER": "smtp",
        "EMAIL_FROM": "KiloClaw <billing@example.com>",
        "SMTP_HOST": stand_ins.smtp_host,
        "SMTP_PORT": str(stand_ins.smtp_port),
        "SMTP_STARTTLS": "0",
        "SMTP_USERNAME": "",
        "SMTP_PASSWORD": "",
        "BURSAR_TEST_CLOCK": "1",
        "BURSAR_PARTITIONS": str(PARTITIONS),
        "BURSAR_WEB_HOST": LOOPBACK,
        "BURSAR_WEB_PORT": str(_free_port()),
        "BURSAR_HEALTH_PORT": "0",
        "BURSAR_DRAIN_SECONDS": str(DRAIN_SECONDS),
        "BURSAR_LOG_LEVEL": "warning",
    }


def _world(settings: Mapping[str, str], stand_ins: StandIns) -> World:
    return World(
        web_url=f"http://{LOOPBACK}:{settings['BURSAR_WEB_PORT']}",
        database_url=settings["DATABASE_URL"],
        instances_url=stand_ins.instances_url,
        mails_url=stand_ins.mails_url,
        api_secret=settings["KILOCLAW_INTERNAL_API_SECRET"],
        cron_secret=settings["CRON_SECRET"],
        webhook_secret=settings["STRIPE_WEBHOOK_SECRET"],
    )


def _free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as listening:
        port: int = listening.getsockname()[1]
    return port
