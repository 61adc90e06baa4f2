"""`POST /webhooks/stripe`: verify, then publish with confirm or park; 2xx only once it is safe (MS-1, MS-2, MS-6)."""

import asyncio
import hashlib
import time
from http import HTTPStatus

import structlog
from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from bursar.billing.account import LOOKED_UP_PREFIXES
from bursar.billing.errors import BursarError, Refused, UnreadableMessage
from bursar.db import parked
from bursar.db.clock import real_now
from bursar.db.items import MessageCopy
from bursar.handlers.messages import HANDLED_STRIPE_TYPES, STRIPE, is_nobodys, resolve_accounts
from bursar.handlers.reading import parsed
from bursar.handlers.relay import RelayedEvent, relayed, type_of
from bursar.service.deciding.decider import DatabaseUnavailable
from bursar.service.web.answers import mapping_of
from bursar.service.web.answers.operators import ReceivedAnswer
from bursar.service.web.dependencies import WebDependencies, connected, web_of
from bursar.service.web.problems import documented, refused
from bursar.service.web.publishing import confirmed
from bursar.service.web.signatures import is_signed

log = structlog.get_logger()

RESOLVE_TIMEOUT_SECONDS = 1.0  # then the lane looks the customer up
RECEIVED = b'{"received":true}'
CODES = ("invalid_signature", "body_too_large", "broker_unavailable", "database_unavailable")

router = APIRouter(tags=["webhooks"])


@router.post(
    "/webhooks/stripe",
    response_class=Response,
    responses={200: {"model": mapping_of(ReceivedAnswer)}, **documented(*CODES)},
)
async def receive(request: Request) -> Response:
    """Take an event of Stripe's. An event type that we do not handle is counted, not an error."""
    web = web_of(request)  # without FastAPI's injection: this is the hot route
    started, answer = time.perf_counter(), "failed"
    try:
        answer = await _take(request, web)
    except (BursarError, HTTPException) as error:
        answer = _label(error)
        raise
    finally:
        web.metrics.webhooks.labels(answer).inc()
        web.metrics.webhook_seconds.observe(time.perf_counter() - started)
    return Response(RECEIVED, media_type="application/json")


async def _take(request: Request, web: WebDependencies) -> str:
    """Bring the event to safety; returns what became of it."""
    body = await request.body()
    if not is_signed(body, request.headers.get("Stripe-Signature"), web.settings.stripe_webhook_secret):
        raise refused("invalid_signature", "No live secret signed this body within the tolerance.")
    traceparent: str = request.state.traceparent
    event_type = None
    try:
        event = parsed(body)
        event_type = type_of(event)
        if event_type not in HANDLED_STRIPE_TYPES or is_nobodys(event_type, event):
            return "ignored"
        wanted = relayed(event)
    except UnreadableMessage as error:
        await _park(web, body, event_type, traceparent, error)
        return "parked"
    await _publish(web, wanted, body, traceparent)
    return "accepted"


async def _publish(web: WebDependencies, event: RelayedEvent, body: bytes, traceparent: str) -> None:
    message = event.message(await _resolved(web, event.account), body, traceparent)
    await confirmed(web.publisher.publish(message), web.publish_timeout_seconds)


async def _resolved(web: WebDependencies, account: str) -> str:
    """The user's account, where only a known customer or payment is named; the lane looks again if the database is
    silent.
    """
    if not account.startswith(LOOKED_UP_PREFIXES):
        return account
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT_SECONDS), connected(web.decider.pool) as connection:
            return (await resolve_accounts(connection, {account}))[account]
    except (DatabaseUnavailable, TimeoutError):
        return account


async def _park(
    web: WebDependencies, body: bytes, event_type: str | None, traceparent: str, error: UnreadableMessage
) -> None:
    """Write down what no lane could read; the same body is written once."""
    message_id = f"webhook:{hashlib.sha256(body).hexdigest()}"
    copy = MessageCopy(STRIPE + (event_type or "unreadable"), {"traceparent": traceparent}, body)
    failed = parked.FailedMessage(message_id, None, copy, error)
    async with connected(web.decider.pool) as connection:
        await parked.record_first_failures(connection, [failed], real_now())
    log.warning("webhook parked", message_id=message_id, error=str(error))


def _label(error: Exception) -> str:
    match error:
        case Refused():
            return "bad_signature"
        case HTTPException(status_code=HTTPStatus.REQUEST_ENTITY_TOO_LARGE):
            return "too_large"
        case _:
            return "unavailable"
