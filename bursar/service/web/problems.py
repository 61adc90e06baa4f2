"""Errors as RFC 9457 problem documents: one stable code for each, listed per route in the OpenAPI document."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from bursar.billing.errors import Refused, Retryable
from bursar.service.deciding.decider import AccountBusy, DatabaseUnavailable
from bursar.service.web.answers.problems import RETRY_AFTER, schema_of

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5

# Every code of the API: its status and title.
CODES: Mapping[str, tuple[int, str]] = MappingProxyType(
    {
        "already_canceling": (400, "Set to cancel already"),
        "already_purchased": (400, "Bought already"),
        "already_subscribed": (400, "Subscribed already"),
        "amount_not_offered": (400, "Not for this amount"),
        "bad_request": (400, "The request cannot be read"),
        "billing_portal_unavailable": (400, "There is no billing portal for this user"),
        "cancellation_pending": (400, "Set to cancel"),
        "invalid_signature": (400, "The signature does not fit"),
        "no_pending_switch": (400, "No switch is pending"),
        "no_subscription": (400, "There is no subscription"),
        "not_active": (400, "The subscription is not active"),
        "not_canceling": (400, "Not set to cancel"),
        "not_commit": (400, "Not on the commit plan"),
        "same_plan": (400, "On this plan already"),
        "unauthorized": (401, "The bearer is missing or wrong"),
        "payment_failed": (402, "The payment failed"),
        "payment_requires_action": (402, "The payment needs the customer"),
        "insufficient_credits": (402, "The balance is too low"),
        "no_access": (403, "No cover for an instance"),
        "trial_not_eligible": (403, "Not eligible for a trial"),
        "not_found": (404, "There is no such thing"),
        "unknown_instance": (404, "There is no such instance"),
        "unknown_sweep": (404, "There is no such sweep"),
        "method_not_allowed": (405, "Not with this method"),
        "busy": (409, "The account is busy"),
        "charges_stopped": (409, "Charges are stopped"),
        "conflict": (409, "The same request is in flight"),
        "foreign_schedule": (409, "A schedule that is not ours"),
        "instance_destroyed": (409, "The instance was destroyed"),
        "instance_exists": (409, "There is an instance already"),
        "instance_of_another": (409, "The instance belongs to another account"),
        "not_parked": (409, "The message was replayed or discarded"),
        "operation_in_progress": (409, "Another change is under way"),
        "payment_taken": (409, "The payment belongs to another user"),
        "stripe_customer_taken": (409, "The Stripe customer belongs to another user"),
        "user_not_deletable": (409, "The user cannot be deleted now"),
        "user_deleted": (410, "The user was deleted"),
        "body_too_large": (413, "The body is too large"),
        "idempotency_key_reused": (422, "The key was used with another body"),
        "invalid_request": (422, "The request is not valid"),
        "internal_error": (500, "Something went wrong on our side"),
        "operation_failed": (500, "It could not be finished"),
        "stripe_refused": (502, "Stripe refused a call"),
        "broker_unavailable": (503, "The broker does not answer"),
        "database_unavailable": (503, "The database does not answer"),
        "operation_abandoned": (503, "It took too long and was taken back"),
        "stripe_unavailable": (503, "Stripe does not answer"),
        "unavailable": (503, "Not available now"),
    }
)
_CODE_OF_STATUS = MappingProxyType(
    {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}
)


class BrokerUnavailable(Retryable):
    """The broker did not confirm in time; the sender sends again."""


class StripeUnavailable(Retryable):
    """What a command began at Stripe did not end in time; workers go on."""


def problem(
    code: str, detail: str, *, headers: Mapping[str, str] | None = None, status: int | None = None, **members: object
) -> JSONResponse:
    """The problem document of a code, with further members of its own."""
    known_status, title = CODES.get(code, (status or 400, code.replace("_", " ").capitalize()))
    content = {
        "type": f"urn:bursar:problem:{code}",
        "title": title,
        "status": status or known_status,
        "detail": detail,
        "code": code,
        **members,
    }
    return JSONResponse(content, status or known_status, dict(headers or {}), MEDIA_TYPE)


def refused(code: str, detail: str) -> Refused:
    """The error that becomes the problem of that code."""
    return Refused(code, detail, status=CODES[code][0])


def problem_of_refusal(refusal: Refused) -> JSONResponse:
    """The answer to a command that the rules forbid."""
    headers = {"WWW-Authenticate": "Bearer"} if refusal.code == "unauthorized" else None
    return problem(refusal.code, str(refusal), status=refusal.status, headers=headers, **refusal.members)


def documented(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route in the OpenAPI document: its codes, by status; those of every route are added."""
    by_status: dict[int | str, list[str]] = {}
    of_commands = ("user_deleted",) if "busy" in codes else ()  # both are about the account that is decided on
    for code in sorted({*codes, *of_commands, "internal_error"}):
        by_status.setdefault(CODES[code][0], []).append(code)
    return {status: _documented(of_status) for status, of_status in by_status.items()}


def answer_with_problems(app: FastAPI) -> None:
    """Have every error of the app answered by a problem document."""
    app.add_exception_handler(Refused, _on_refusal)
    app.add_exception_handler(Retryable, _on_retryable)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)


async def _on_refusal(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)
    return problem_of_refusal(error)


async def _on_retryable(_: Request, error: Exception) -> JSONResponse:
    """Nothing was done, or it is safe to do again: the caller may try once more."""
    wished = error.retry_after_seconds if isinstance(error, StripeUnavailable) else None
    headers = {"Retry-After": str(max(RETRY_AFTER_SECONDS, math.ceil(wished or 0)))}
    match error:
        case AccountBusy():
            return problem("busy", "Another change of this account is under way; try again.", headers=headers)
        case DatabaseUnavailable():
            code, detail = "database_unavailable", "The database cannot be reached; try again."
        case StripeUnavailable():
            code = "stripe_unavailable"
            detail = "What was asked for is not finished; ask again under the same Idempotency-Key."
        case BrokerUnavailable():
            code, detail = "broker_unavailable", "The message was not confirmed; send it again."
        case _:
            code, detail = "unavailable", "This cannot be done now; try again."
    log.warning("answered unavailable", code=code, error=str(error))
    return problem(code, detail, headers=headers)


async def _on_invalid(_: Request, error: Exception) -> JSONResponse:
    """Name the wrong fields, never their values (MS-14)."""
    assert isinstance(error, RequestValidationError)
    fields = [{"field": ".".join(str(part) for part in one["loc"]), "problem": one["type"]} for one in error.errors()]
    return problem("invalid_request", "Some fields are missing or wrong.", errors=fields)


async def _on_http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = _CODE_OF_STATUS.get(error.status_code, "bad_request")
    return problem(code, CODES[code][1] + ".", status=error.status_code, headers=error.headers)


def _documented(codes: list[str]) -> dict[str, Any]:
    described = "\n".join(f"`{code}`: {CODES[code][1]}." for code in codes)
    content = {MEDIA_TYPE: {"schema": schema_of(codes)}}
    may_be_asked_again = {"busy", "unavailable"} & {code.rpartition("_")[2] for code in codes}
    return {"description": described, "content": content} | ({"headers": RETRY_AFTER} if may_be_asked_again else {})
