"""The embedded default: web, worker and scheduler in one process tree, on private servers when none are configured."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from bursar.db.migrate import migrate
from bursar.service.processes.children import KILL_AFTER_DRAIN_SECONDS, Child
from bursar.service.processes.development import (
    development_settings,
    read_environment,
    server_settings,
    write_environment,
)
from bursar.service.processes.lifetime import Part, run_parts, run_process
from bursar.service.processes.starting import wait_for_broker, wait_for_database
from bursar.service.servers import running_servers
from bursar.service.settings import Settings, load_catalogue, load_settings

ROOT = Path(".bursar")
NAME = "up"


def run_up(console: Console) -> None:
    """Run everything until a stop signal. Raises `ServersUnavailable`, `SettingsError` or `StartError`."""
    with running_servers(NAME, durable=True, root=ROOT) as servers:
        file = ROOT / NAME / "environment"
        invented = development_settings(os.environ, read_environment(file))
        added = {**server_settings(servers), **invented}
        os.environ.update(added)
        settings = load_settings(Settings)
        load_catalogue(settings.bursar_catalogue, settings.prices)
        write_environment(file, added)
        _tell(console, settings, file, is_invented=bool(invented))
        run_process(lambda stop: _run_children(settings, os.environ, stop))


async def _run_children(settings: Settings, environment: Mapping[str, str], stop: asyncio.Event) -> None:
    await wait_for_database(settings.database_url)
    await wait_for_broker(settings.amqp_url)
    await migrate(settings.database_url)
    # Worker and scheduler take any free port for their health pages: several process trees may share a machine.
    behind = {**environment, "BURSAR_HEALTH_PORT": "0"}
    children = {
        "worker": Child(("worker",), behind, settings.bursar_drain_seconds),
        "scheduler": Child(("scheduler",), behind, settings.bursar_drain_seconds),
        "web": Child(("web",), environment, settings.bursar_drain_seconds),
    }
    parts = [Part.of(name, child.run) for name, child in children.items()]
    await run_parts(parts, stop, settings.bursar_drain_seconds + 2 * KILL_AFTER_DRAIN_SECONDS)


def _tell(console: Console, settings: Settings, file: Path, *, is_invented: bool) -> None:
    base = f"http://{settings.bursar_web_host}:{settings.bursar_web_port}"
    console.print(f"Bursar: {base} (webhooks: {base}/webhooks/stripe, ready: {base}/readyz)")
    if is_invented:
        console.print("Settings that were missing have values for development; the test clock is allowed.")
    console.print(f"For commands in another shell: set -a; . {file}; set +a")
