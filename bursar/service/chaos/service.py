"""The service as it runs in production: a web process, three workers and two schedulers, each kept running."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, stop_after_delay, wait_fixed

from bursar.service.chaos.disturbances import SCHEDULERS, WORKERS
from bursar.service.chaos.keeping import KeptProcess
from bursar.service.chaos.load import Load
from bursar.service.demo.lives import price_environment
from bursar.service.demo.quiet import PARTITIONS
from bursar.service.demo.stand_ins import StandIns
from bursar.service.processes.development import server_settings
from bursar.service.processes.starting import StartError
from bursar.service.servers import Servers
from bursar.service.servers.probes import LOOPBACK, free_port

READY_SECONDS = 90.0
POLL_SECONDS = 0.1
COMMANDS = {"web": "web", **dict.fromkeys(WORKERS, "worker"), **dict.fromkeys(SCHEDULERS, "scheduler")}


def own_secrets() -> dict[str, str]:
    """Made for one run."""
    return {
        "STRIPE_SECRET_KEY": f"sk_test_{secrets.token_hex(16)}",
        "STRIPE_WEBHOOK_SECRET": f"whsec_{secrets.token_hex(16)}",
        "KILOCLAW_INTERNAL_API_SECRET": secrets.token_urlsafe(24),
        "CRON_SECRET": secrets.token_urlsafe(24),
    }


def settings_of(servers: Servers, load: Load, stand_ins: StandIns) -> dict[str, str]:
    """Everything else that the processes are told. Nobody is mailed: no user of the load is due a mail."""
    return {
        **server_settings(servers),
        **price_environment(load.lives),
        "STRIPE_KILOCLAW_EARLYBIRD_PRICE_ID": "price_earlybird",
        "STRIPE_API_BASE": stand_ins.stripe_url,
        "KILOCLAW_API_URL": stand_ins.instances_url,
        "APP_URL": "https://app.example.com",
        "EMAIL_PROVIDER": "none",
        "BURSAR_TEST_CLOCK": "1",
        "BURSAR_PARTITIONS": str(PARTITIONS),
        "BURSAR_WEB_HOST": LOOPBACK,
        "BURSAR_WEB_PORT": str(free_port()),
        "BURSAR_HEALTH_PORT": "0",
        "BURSAR_LOG_LEVEL": "info",
        "BURSAR_LOG_FORMAT": "json",
    }


def web_url(settings: Mapping[str, str]) -> str:
    """Where the web process listens, after a restart, too."""
    return f"http://{LOOPBACK}:{settings['BURSAR_WEB_PORT']}"


@asynccontextmanager
async def running_service(settings: Mapping[str, str], logs: Path) -> AsyncIterator[dict[str, KeptProcess]]:
    """All processes, by name, until the block ends. Raises `StartError` when the web is not ready in time."""
    environment = {**os.environ, **settings}
    processes = {
        name: KeptProcess(name, command, environment, logs / f"{name}.log") for name, command in COMMANDS.items()
    }
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for process in processes.values():
            group.create_task(process.run(stop))
        try:
            await _wait_until_ready(settings)
            yield processes
        finally:
            stop.set()


async def _wait_until_ready(settings: Mapping[str, str]) -> None:
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(httpx.HTTPError),
        wait=wait_fixed(POLL_SECONDS),
        stop=stop_after_delay(READY_SECONDS),
    )
    async with httpx.AsyncClient(base_url=web_url(settings), trust_env=False) as client:

        async def ask() -> None:
            (await client.get("/readyz")).raise_for_status()

        try:
            await retrying(ask)
        except RetryError:
            raise StartError(f"The service was not ready within {READY_SECONDS:.0f} s; see its logs.") from None
