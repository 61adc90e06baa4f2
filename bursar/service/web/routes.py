"""Routes of the API: the bearer first, before anything of the request is read; then `Idempotency-Key`."""

import hashlib
import hmac
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Annotated, Any

import orjson
import structlog
from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from pydantic import SecretStr

from bursar.billing.errors import Refused
from bursar.db import idempotency
from bursar.db.clock import real_now
from bursar.db.connections import Connection
from bursar.service.deciding.decider import DatabaseUnavailable
from bursar.service.settings import Settings
from bursar.service.web.dependencies import WebDependencies, connected, web_of
from bursar.service.web.problems import MEDIA_TYPE, problem_of_refusal, refused

log = structlog.get_logger()

KEY_HEADER = "Idempotency-Key"
MAX_KEY_CHARACTERS = 255

Handle = Callable[[Request], Coroutine[Any, Any, Response]]

# Every route behind a bearer may answer with these.
COMMON_CODES = ("unauthorized", "invalid_request", "body_too_large", "database_unavailable")
KEYED_CODES = ("conflict", "idempotency_key_reused")
# What a command that changes something at Stripe may answer besides.
OPERATION_CODES = (
    "operation_abandoned",
    "operation_failed",
    "operation_in_progress",
    "stripe_refused",
    "stripe_unavailable",
)
MAY_DIFFER = frozenset({"operation_in_progress"})  # the same request may be granted later: not kept

KEY_PARAMETER = {
    "name": KEY_HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "The first answer under a key is kept for 30 days and given again.",
}

documented_bearer = Depends(HTTPBearer(auto_error=False, description="The route itself compares the secret."))


class ApiRoute(APIRoute):
    """A route behind the product's bearer; its POSTs keep their first answer under `Idempotency-Key`."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:  # noqa: ANN401 - FastAPI's
        if "POST" in (options.get("methods") or ()):
            options["openapi_extra"] = {**(options.get("openapi_extra") or {}), "parameters": [KEY_PARAMETER]}
        super().__init__(path, endpoint, **options)

    def secret(self, settings: Settings) -> SecretStr:
        """The bearer that it asks for."""
        return settings.kiloclaw_internal_api_secret

    def get_route_handler(self) -> Handle:
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            _require_bearer(request, self.secret(web_of(request).settings))
            if request.method == "POST" and KEY_HEADER in request.headers:
                return await _answered_once(request, handle)
            return await handle(request)

        return guarded


class CronRoute(ApiRoute):
    """A route behind the scheduler's bearer."""

    def secret(self, settings: Settings) -> SecretStr:
        return settings.cron_secret


async def _command_id(request: Request) -> str:
    """The message id of the request's command: the same one for the same idempotency key, else new."""
    keyed: str | None = getattr(request.state, "command_id", None)
    return keyed or f"command:{request.state.request_id}"


CommandId = Annotated[str, Depends(_command_id)]


def _require_bearer(request: Request, secret: SecretStr) -> None:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    fits = hmac.compare_digest(given.encode(), secret.get_secret_value().encode())
    if scheme.lower() != "bearer" or not fits:
        raise refused("unauthorized", "The bearer is missing or wrong.")


async def _answered_once(request: Request, handle: Handle) -> Response:
    """The kept answer, or the first one, kept for 30 days; one that may differ next time is not kept."""
    web, claim = web_of(request), await _claim_of(request)
    async with connected(web.decider.pool) as connection:
        claimed = await idempotency.claim(connection, claim)
    if isinstance(claimed, idempotency.Known):
        return _answer_again(claimed, claim)
    request.state.command_id = claimed.command_id
    try:
        response = await handle(request)
    except Refused as refusal:
        response = problem_of_refusal(refusal)
        if refusal.code in MAY_DIFFER or refusal.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            await _settle(web, claim, None)
            return response
    except RequestValidationError:
        await _settle(web, claim, None, again=idempotency.forget)
        raise
    except Exception:
        await _settle(web, claim, None)
        raise
    await _settle(web, claim, response)
    return response


async def _claim_of(request: Request) -> idempotency.Claim:
    key = request.headers[KEY_HEADER]
    if not key.isascii() or not key.isprintable() or not 0 < len(key) <= MAX_KEY_CHARACTERS:
        raise refused("invalid_request", f"{KEY_HEADER} must have 1 to {MAX_KEY_CHARACTERS} printable characters.")
    query = request.scope["query_string"].decode("latin-1")  # a dry run is another request
    scope = f"{request.method} {request.scope['path']}?{query}".removesuffix("?")  # the path names the account
    return idempotency.Claim(scope, key, hashlib.sha256(await request.body()).digest(), real_now())


def _answer_again(known: idempotency.Known, claim: idempotency.Claim) -> Response:
    if known.request_hash != claim.request_hash:
        raise refused("idempotency_key_reused", "This key was used with another body.")
    if known.status is None:
        raise refused("conflict", "A request with this key is in flight; ask again when it is answered.")
    is_problem = isinstance(known.answer, dict) and "code" in known.answer and "title" in known.answer
    return JSONResponse(
        known.answer,
        known.status,
        {"Idempotent-Replayed": "true"},
        MEDIA_TYPE if is_problem else None,
    )


async def _settle(
    web: WebDependencies,
    claim: idempotency.Claim,
    response: Response | None,
    *,
    again: Callable[[Connection, idempotency.Claim], Coroutine[Any, Any, None]] = idempotency.release,
) -> None:
    """Keep the answer, or give the key back. Without a database the claim lapses; the effect stands."""
    try:
        async with connected(web.decider.pool) as connection:
            if response is None:
                await again(connection, claim)
            else:
                await idempotency.keep_answer(
                    connection, claim, response.status_code, orjson.loads(bytes(response.body))
                )
    except DatabaseUnavailable as error:
        log.warning("answer not kept", error=str(error))
