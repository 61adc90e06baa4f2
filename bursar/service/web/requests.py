"""Around every request: its trace, its bound, its headers, its line in the access log, and the last net for bugs."""

import secrets
import time
from http import HTTPStatus

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bursar.handlers.messages import MAX_BODY_BYTES
from bursar.service.observability import tracing
from bursar.service.web.problems import problem

log = structlog.get_logger()

MAX_COMMAND_BYTES = 64 << 10
WEBHOOKS = "/webhooks/"
QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})


class BodyLimit:
    """Refuses a body as soon as it is known to exceed its bound, whatever its headers claim."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        bound = MAX_BODY_BYTES if scope["path"].startswith(WEBHOOKS) else MAX_COMMAND_BYTES
        await self._app(scope, _bounded(receive, bound, _announced_bytes(scope)), send)


class RequestScope:
    """Binds a request's trace to its log lines, adds its headers, and answers what nobody caught."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        traceparent = tracing.extract(Headers(scope=scope))
        request_id = secrets.token_hex(12)
        scope["state"] = {**scope.get("state", {}), "traceparent": traceparent, "request_id": request_id}
        with structlog.contextvars.bound_contextvars(trace=tracing.trace_of(traceparent), request_id=request_id):
            await _logged(self._app, scope, receive, _Sender(send, request_id, traceparent))


class _Sender:
    """Adds the headers of every answer and remembers its status."""

    def __init__(self, send: Send, request_id: str, traceparent: str) -> None:
        self._send = send
        self._added = {
            "X-Request-Id": request_id,
            "traceparent": traceparent,
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message).update(self._added)
        await self._send(message)


async def _logged(app: ASGIApp, scope: Scope, receive: Receive, send: _Sender) -> None:
    started = time.perf_counter()
    try:
        await app(scope, receive, send)
    except Exception:
        log.exception("request failed")
        if send.status is None:
            answer = problem("internal_error", "The error was logged under the request's id.")
            await answer(scope, receive, send)
    _log_access(scope, send.status, time.perf_counter() - started)


def _log_access(scope: Scope, status: int | None, seconds: float) -> None:
    """The route as declared: a path may hold an address. What Stripe sends is in the metrics."""
    answered = status or HTTPStatus.INTERNAL_SERVER_ERROR
    path = getattr(scope.get("route"), "path", "unknown")
    quiet = path in QUIET_PATHS or (path.startswith(WEBHOOKS) and answered < HTTPStatus.BAD_REQUEST)
    write = log.debug if quiet else log.info
    write("request", method=scope["method"], path=path, status=answered, duration_ms=round(seconds * 1000, 2))


def _announced_bytes(scope: Scope) -> int:
    announced = Headers(scope=scope).get("content-length", "")
    return int(announced) if announced.isascii() and announced.isdigit() else 0


def _bounded(receive: Receive, bound: int, announced: int) -> Receive:
    received = 0

    async def receive_within_bound() -> Message:
        nonlocal received
        if announced > bound:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        message = await receive()
        received += len(message.get("body", b""))
        if received > bound:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return message

    return receive_within_bound
