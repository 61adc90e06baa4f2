"""Idempotency keys: the first answer for a key is given again, a 500 too."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from bursar.billing.values import Value, replace
from bursar.service.stripe_stand_in.refusals import StripeRefusal


class Answer(Value):
    """What the caller gets."""

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str] = MappingProxyType({})


@dataclass(slots=True)
class Remembered:
    asked: object
    answer: Answer | None = None  # None while it is being answered


@dataclass(slots=True)
class Keys:
    """What was asked under which key, and how it was answered."""

    known: dict[str, Remembered] = field(default_factory=dict)

    def begin(self, key: str, asked: object) -> Answer | None:
        """The first answer for this key; None if this call is the first. Raises for another call, or one in flight."""
        seen = self.known.get(key)
        if seen is None:
            self.known[key] = Remembered(asked)
            return None
        if seen.asked != asked:
            message = (
                "Keys for idempotent requests can only be used with the same parameters they were first used with."
            )
            raise StripeRefusal(message, type="idempotency_error")
        if seen.answer is None:
            message = "There is currently another in-progress request using this Idempotent Key."
            raise StripeRefusal(
                message, status=HTTPStatus.CONFLICT, code="idempotency_key_in_use", type="idempotency_error"
            )
        return replace(seen.answer, headers={"Idempotent-Replayed": "true"})

    def end(self, key: str, answer: Answer | None) -> None:
        """The call was answered: the key remembers it, or is free again."""
        if answer is None:
            del self.known[key]
        else:
            self.known[key].answer = answer
