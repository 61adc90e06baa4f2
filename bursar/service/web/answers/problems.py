"""The form of every error, and what further fields some codes bring."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, get_args

from pydantic import Field

from bursar.service.web.answers import Answer, example
from bursar.service.web.answers.status import Activation, LockReason

PROBLEM = {"$ref": "#/components/schemas/Problem"}
RETRY_AFTER = {
    "Retry-After": {"schema": {"type": "integer"}, "description": "In how many seconds to ask again, where that helps."}
}


class WrongField(Answer):
    """A field of the request that is missing or wrong."""

    field: str = Field(description="Such as `body.plan`.")
    problem: str = Field(description="What is wrong with it, such as `missing`.")


class Problem(Answer):
    """An error, as RFC 9457 has it. `code` is stable: decide by it, not by the texts."""

    model_config = example(
        type="urn:bursar:problem:busy",
        title="The account is busy",
        status=409,
        detail="Another change of this account is under way; try again.",
        code="busy",
    )

    type: str = Field(description="`urn:bursar:problem:` and the code.", json_schema_extra={"format": "uri"})
    title: str
    status: int
    detail: str = Field(description="A sentence about this case.")
    code: str
    errors: list[WrongField] = Field(
        default_factory=list, description="Only of `invalid_request`: the wrong fields, without their values."
    )


# Further fields, by the code that brings them.
MEMBERS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "insufficient_credits": {
            "shortfall_microdollars": {"type": "integer", "description": "How much the balance is short."}
        },
        "no_access": {
            "hasAccess": {"type": "boolean", "const": False},
            "reason": {"type": "string", "enum": [*get_args(LockReason), *get_args(Activation)]},
        },
    }
)


def schema_of(codes: list[str]) -> dict[str, Any]:
    """The problem documents of these codes, as JSON Schema."""
    members = {name: form for code in codes for name, form in MEMBERS.get(code, {}).items()}
    return {"allOf": [PROBLEM], "properties": {"code": {"type": "string", "enum": codes}, **members}}
