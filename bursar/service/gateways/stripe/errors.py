"""Stripe's errors in our words: its type, code, status and request id, never its text (MS-11, MS-14)."""

import re
from http import HTTPStatus

import stripe

from bursar.billing.errors import BursarError, CallRefused, KeyRefused, KeySpent, Permanent, Retryable
from bursar.service.gateways.retry_after import retry_after_seconds

MISSING = "resource_missing"

_BUSY = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS})
_BUSY_CODES = frozenset({"rate_limit", "lock_timeout", "idempotency_key_in_use"})
_KEY_REFUSED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_CODE = re.compile(r"[a-z0-9_]{1,64}")


def translate(error: stripe.StripeError, *, has_key: bool = False) -> BursarError:
    """Our error for one of the SDK's. `has_key`: Stripe keeps the outcome under the call's idempotency key.

    An answer that Stripe itself did not write, such as a proxy's 502, says nothing about the key.
    """
    summary = _summary(error)
    if _may_be_repeated(error, has_key=has_key):
        return Retryable(summary, retry_after_seconds=retry_after_seconds(_header(error, "Retry-After")))
    if _status(error) in _KEY_REFUSED:  # by whomever: a proxy, too, turns away all that we ask
        return KeyRefused(f"the Stripe key is refused ({summary})")
    if error.error is None:
        return Permanent(summary)
    if _status(error) >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return KeySpent(summary) if has_key else Retryable(summary)
    if isinstance(error, stripe.IdempotencyError):  # the key was used with other parameters: what happened then?
        return KeySpent(summary)
    return _refusal(error, summary)


def _refusal(error: stripe.StripeError, summary: str) -> BursarError:
    code = _code(error)
    # A key of the other mode sees nothing of an object that does exist: that must not read as "is not there".
    if code == MISSING and "similar object exists" in (error.user_message or ""):
        return Permanent(f"the Stripe key is of another mode than the object ({summary})")
    return CallRefused(code or _type(error) or "unknown", summary)


def _may_be_repeated(error: stripe.StripeError, *, has_key: bool) -> bool:
    """No answer, a busy Stripe, or one that says so itself: the same call with the same key."""
    if isinstance(error, stripe.RateLimitError | stripe.APIConnectionError):
        return True
    if _status(error) in _BUSY or _code(error) in _BUSY_CODES or _header(error, "Stripe-Should-Retry") == "true":
        return True
    if error.error is not None:
        return False
    was_done = has_key and _status(error) < HTTPStatus.MULTIPLE_CHOICES  # but what was done cannot be read
    return was_done or _status(error) >= HTTPStatus.INTERNAL_SERVER_ERROR


def _status(error: stripe.StripeError) -> int:
    return error.http_status or 0


def _code(error: stripe.StripeError) -> str | None:
    return _word(error.code or getattr(error.error, "code", None))


def _type(error: stripe.StripeError) -> str | None:
    return _word(getattr(error.error, "type", None))


def _word(value: object) -> str | None:
    """Only what looks like a code: anything else might be text."""
    return value if isinstance(value, str) and _CODE.fullmatch(value) else None


def _summary(error: stripe.StripeError) -> str:
    facts = {"type": _type(error), "code": _code(error), "status": error.http_status, "request": error.request_id}
    known = ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)
    return f"Stripe: {type(error).__name__}" + (f" ({known})" if known else "")


def _header(error: stripe.StripeError, name: str) -> str | None:
    return {key.lower(): value for key, value in (error.headers or {}).items()}.get(name.lower())
