"""Settings for development, where none are set: secrets made once and kept in a file that only its owner may read."""

import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path

from bursar.service.servers import Servers
from bursar.service.servers.instance import write_private

LIVE_KEYS = ("sk_live_", "rk_live_")
INSTANCE_API = "http://127.0.0.1:8090"
APP = "http://127.0.0.1:3000"


def development_settings(environment: Mapping[str, str], kept: Mapping[str, str]) -> dict[str, str]:
    """What `environment` lacks: from `kept`, the settings of an earlier run, else new. Nothing beside a live key."""
    if environment.get("STRIPE_SECRET_KEY", "").startswith(LIVE_KEYS):
        return {}
    invented = {
        "STRIPE_SECRET_KEY": f"sk_test_{secrets.token_hex(16)}",
        "STRIPE_WEBHOOK_SECRET": f"whsec_{secrets.token_hex(16)}",
        "STRIPE_KILOCLAW_STANDARD_PRICE_ID": "price_standard",
        "STRIPE_KILOCLAW_COMMIT_PRICE_ID": "price_commit",
        "STRIPE_KILOCLAW_EARLYBIRD_PRICE_ID": "price_earlybird",
        "KILOCLAW_API_URL": INSTANCE_API,
        "KILOCLAW_INTERNAL_API_SECRET": secrets.token_urlsafe(24),
        "CRON_SECRET": secrets.token_urlsafe(24),
        "APP_URL": APP,
        "EMAIL_PROVIDER": "none",
        "BURSAR_TEST_CLOCK": "1",
    }
    return {name: kept.get(name) or value for name, value in invented.items() if not environment.get(name)}


def server_settings(servers: Servers) -> dict[str, str]:
    """The addresses of the servers, as settings."""
    return {"DATABASE_URL": servers.database_url, "AMQP_URL": servers.amqp_url}


def write_environment(path: Path, settings: Mapping[str, str]) -> None:
    """Write settings as a shell reads them (`set -a; . path`), for their owner alone (0600)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items()))


def read_environment(path: Path) -> dict[str, str]:
    """What `write_environment` wrote; nothing where the file is not there."""
    if not path.is_file():
        return {}
    assignments = shlex.split(path.read_text(encoding="utf-8"))
    return dict(assignment.split("=", 1) for assignment in assignments if "=" in assignment)
