"""`/healthz`, `/readyz` and `/metrics`: of the web process, and alone for worker and scheduler."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from bursar.billing.values import Value, as_dict
from bursar.service.observability.metrics import Metrics
from bursar.service.web.answers import mapping_of
from bursar.service.web.answers.operators import AliveAnswer, ReadinessAnswer


class Check(Value):
    """One thing that must hold for the process to be of use; `detail` is a sentence without secrets."""

    name: str
    ok: bool
    detail: str = ""


Readiness = Callable[[], Awaitable[list[Check]]]


def health_app(metrics: Metrics, readiness: Readiness) -> FastAPI:
    """The health pages alone, for processes that serve nothing else."""
    app = FastAPI(title="Bursar health", openapi_url=None, docs_url=None, redoc_url=None)
    app.include_router(health_router(metrics, readiness))
    return app


def health_router(metrics: Metrics, readiness: Readiness) -> APIRouter:
    """The three pages; none asks for a bearer."""
    router = APIRouter(tags=["health"])

    @router.get("/healthz", response_model=mapping_of(AliveAnswer))
    async def healthz() -> dict[str, str]:
        """The process lives."""
        return {"status": "alive"}

    @router.get(
        "/readyz",
        response_model=mapping_of(ReadinessAnswer),
        responses={503: {"model": mapping_of(ReadinessAnswer), "description": "A check is not ok."}},
    )
    async def readyz() -> JSONResponse:
        """Whether the process can do its work now: every check with its word on it."""
        checks = await readiness()
        ready = all(check.ok for check in checks)
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return JSONResponse({"ready": ready, "checks": [as_dict(check) for check in checks]}, status)

    @router.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def exposed_metrics() -> Response:
        """Prometheus's text form."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router
