"""What `deploy/` and `docs/` say is true of the code."""

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from bursar.service.observability.metrics import Metrics
from bursar.service.settings import Settings

CHECKOUT = Path(__file__).parents[1]
ALERTS = (CHECKOUT / "deploy" / "prometheus" / "alerts.yaml").read_text(encoding="utf-8")
OPERATIONS = (CHECKOUT / "docs" / "operations.md").read_text(encoding="utf-8")
CONTAINERS = [(CHECKOUT / "deploy" / name).read_text(encoding="utf-8") for name in ("Dockerfile", "compose.yaml")]


def names_in(registry: CollectorRegistry) -> set[str]:
    suffixes = ("", "_total", "_bucket", "_count", "_sum")
    return {f"{family.name}{suffix}" for family in registry.collect() for suffix in suffixes}


def test_alerts_and_runbook_speak_of_metrics_that_exist() -> None:
    spoken_of = set(re.findall(r"bursar_[a-z_]+[a-z]", ALERTS + OPERATIONS))
    assert spoken_of
    assert spoken_of <= names_in(Metrics().registry)


def test_the_runbook_explains_every_alert() -> None:
    alerts = set(re.findall(r"alert: (\w+)", ALERTS))
    assert alerts
    assert alerts == set(re.findall(r"\| `(Bursar\w+)` \|", OPERATIONS))


def test_the_containers_set_settings_that_exist() -> None:
    for text in CONTAINERS:
        for name in re.findall(r"\b(BURSAR_[A-Z_]+|DATABASE_URL|AMQP_URL)\b", text):
            assert name.lower() in Settings.model_fields
