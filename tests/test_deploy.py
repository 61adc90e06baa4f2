"""What `deploy/` and `docs/` say is true of the code."""

import re
import tomllib
from pathlib import Path

from prometheus_client import CollectorRegistry

from bursar.service.observability.metrics import Metrics
from bursar.service.settings import Settings

CHECKOUT = Path(__file__).parents[1]
ALERTS = (CHECKOUT / "deploy" / "prometheus" / "alerts.yaml").read_text(encoding="utf-8")
OPERATIONS = (CHECKOUT / "docs" / "operations.md").read_text(encoding="utf-8")
LET_IN = re.findall(
    r"^!(\S+)$", (CHECKOUT / "deploy" / "Dockerfile.dockerignore").read_text(encoding="utf-8"), re.MULTILINE
)
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
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


def test_the_image_has_the_files_that_its_package_is_built_from() -> None:
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", CONTAINERS[0], re.MULTILINE)
    copied = {name for names in copies for name in names.split()}
    assert copied == set(LET_IN)
    assert all((CHECKOUT / name).exists() for name in copied)
    assert {"bursar", "pyproject.toml", PROJECT["readme"]} <= copied
