"""The web app, put together from its dependencies."""

from fastapi import FastAPI

from bursar.service.web import (
    failures,
    kiloclaw,
    kiloclaw_plans,
    kiloclaw_subscription,
    ops,
    parked,
    sweeps,
    ticks,
    users,
    webhooks,
)
from bursar.service.web.credits import router as credits_router
from bursar.service.web.dependencies import WebDependencies
from bursar.service.web.documents import documents_router
from bursar.service.web.documents.described import DescribedApp
from bursar.service.web.health import health_router
from bursar.service.web.problems import answer_with_problems
from bursar.service.web.requests import BodyLimit, RequestScope

ABOUT_ERRORS = """Errors are problem documents with a stable `code`. Beside those listed with a route, any route may
answer `bad_request`, `method_not_allowed` and `unavailable`."""


def make_app(dependencies: WebDependencies) -> FastAPI:
    """The app of `bursar web`. It opens and closes nothing: the process does."""
    app = DescribedApp(
        title="Bursar",
        version="1",
        summary="Billing worker: webhooks, commands and ticks.",
        description=ABOUT_ERRORS,
        docs_url=None,  # it would load its scripts from other hosts
        redoc_url=None,
    )
    app.state.web = dependencies
    answer_with_problems(app)
    for routes in (
        webhooks.router,
        users.router,
        kiloclaw.router,
        kiloclaw_subscription.router,
        kiloclaw_plans.router,
        credits_router,
        ticks.router,
        ops.router,
        sweeps.router,
        parked.router,
        failures.router,
    ):
        app.include_router(routes)
    app.include_router(health_router(dependencies.metrics, dependencies.readiness))
    app.include_router(documents_router(dependencies.asyncapi))
    app.add_middleware(BodyLimit)
    app.add_middleware(RequestScope)  # the last added is the outermost
    return app
