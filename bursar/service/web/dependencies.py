"""What the web app is made of: passed in once, found again through the request."""

from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request

from bursar.billing.catalogue import Catalogue
from bursar.billing.operations import Operation
from bursar.billing.values import Value, field
from bursar.db.connections import Connection, Pool
from bursar.handlers.messages import ReceivedMessage
from bursar.handlers.operations import OPERATIONS
from bursar.service.deciding.decider import ACQUIRE_TIMEOUT_SECONDS, UNAVAILABLE, DatabaseUnavailable, Decider
from bursar.service.observability.metrics import Metrics
from bursar.service.settings import Settings
from bursar.service.steps.operations import StripeCalls
from bursar.service.web.health import Readiness

PUBLISH_TIMEOUT_SECONDS = 5.0
OPERATION_BUDGET_SECONDS = 20.0  # of one request; then workers go on


class Publisher(Protocol):
    """Publishes durably: returns once the broker has confirmed and routed, else raises `Retryable`."""

    def publish(self, message: ReceivedMessage) -> Coroutine[None, None, None]:
        """Send a message to the partition of its account."""
        ...

    def publish_tick(self, sweep: str, due_at: datetime, traceparent: str | None = None) -> Coroutine[None, None, None]:
        """Send a tick to `bursar.ticks`."""
        ...


class WebDependencies(Value):
    """Everything a request may need. `asyncapi` is the document of the messages."""

    settings: Settings
    decider: Decider
    publisher: Publisher
    metrics: Metrics
    catalogue: Catalogue
    readiness: Readiness
    stripe: StripeCalls
    asyncapi: Mapping[str, Any] = field(default_factory=dict)
    publish_timeout_seconds: float = PUBLISH_TIMEOUT_SECONDS
    operations: Mapping[str, Operation[Any]] = field(default_factory=lambda: OPERATIONS)
    operation_budget_seconds: float = OPERATION_BUDGET_SECONDS


def web_of(request: Request) -> WebDependencies:
    """The dependencies of the app that serves the request."""
    web: WebDependencies = request.app.state.web
    return web


async def _web(request: Request) -> WebDependencies:
    """A coroutine, since FastAPI would call a plain function in a thread."""
    return web_of(request)


Web = Annotated[WebDependencies, Depends(_web)]


@asynccontextmanager
async def connected(pool: Pool) -> AsyncIterator[Connection]:
    """A connection for reads; DatabaseUnavailable when Postgres cannot be reached."""
    try:
        async with pool.acquire(timeout=ACQUIRE_TIMEOUT_SECONDS) as connection:
            yield connection
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the database does not answer ({type(error).__name__})") from error


@asynccontextmanager
async def snapshot(pool: Pool) -> AsyncIterator[Connection]:
    """A connection whose reads all see the same instant."""
    async with connected(pool) as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        yield connection
