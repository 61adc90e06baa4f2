"""Stripe's errors, in its own form."""

from http import HTTPStatus
from typing import Any

NAMES = {"checkout.session": "checkout session"}


class StripeRefusal(Exception):
    """An answer other than 200."""

    def __init__(
        self, message: str, *, code: str | None = None, param: str | None = None, status: int = 400, **more: Any
    ) -> None:
        super().__init__(message)
        self.status = status
        given = {"type": "invalid_request_error", "code": code, "param": param, "message": message, **more}
        self.error = {name: value for name, value in given.items() if value is not None}

    @property
    def body(self) -> dict[str, Any]:
        return {"error": self.error}


def missing(kind: str, key: str, param: str = "id") -> StripeRefusal:
    """No such object: 404 where the path names it, 400 where a parameter does."""
    status = HTTPStatus.NOT_FOUND if param == "id" else HTTPStatus.BAD_REQUEST
    name = NAMES.get(kind, kind.replace("_", " "))
    return StripeRefusal(f"No such {name}: '{key}'", code="resource_missing", param=param, status=status)


def parameter_missing(param: str) -> StripeRefusal:
    return StripeRefusal(f"Missing required param: {param}.", code="parameter_missing", param=param)


def parameter_invalid(param: str, message: str) -> StripeRefusal:
    return StripeRefusal(message, param=param)


def unknown_here(what: str) -> StripeRefusal:
    """A thing that Stripe can do and this stand-in cannot: it says so rather than guess."""
    return StripeRefusal(f"The stand-in does not know {what}.", code="not_in_stand_in")


def card_error(code: str, **more: Any) -> StripeRefusal:
    """A payment that failed: 402."""
    messages = {
        "card_declined": "Your card was declined.",
        "authentication_required": "Your card was declined. This transaction requires authentication.",
    }
    decline = {"card_declined": "generic_decline", "authentication_required": "authentication_required"}[code]
    return StripeRefusal(messages[code], code=code, status=402, type="card_error", decline_code=decline, **more)
