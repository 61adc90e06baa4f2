"""The health pages of a process that serves nothing else."""

from bursar.service.observability.metrics import Metrics
from bursar.service.processes.serving import HttpServer
from bursar.service.settings import Settings
from bursar.service.web.health import Readiness, health_app

DRAIN_SECONDS = 1.0


def health_server(settings: Settings, metrics: Metrics, readiness: Readiness) -> HttpServer:
    """`/healthz`, `/readyz` and `/metrics` on `BURSAR_HEALTH_PORT`."""
    return HttpServer(
        health_app(metrics, readiness),
        settings.bursar_web_host,
        settings.bursar_health_port,
        drain_seconds=DRAIN_SECONDS,
        port_variable="BURSAR_HEALTH_PORT",
    )
