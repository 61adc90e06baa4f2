"""Reading a message's body: parsed JSON as a typed view, or the names of the fields that are wrong."""

from collections.abc import Mapping
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from bursar.billing.errors import UnreadableMessage

MAX_NAMED_FIELDS = 5  # in the error of an unreadable message

View = TypeVar("View", bound=BaseModel)


def mapping(value: Any) -> Mapping[str, Any]:  # noqa: ANN401 - parsed JSON
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def parsed(body: bytes) -> Any:  # noqa: ANN401 - parsed JSON
    """The JSON value of a body; UnreadableMessage when it is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UnreadableMessage(f"not JSON at byte {error.pos}") from None


def view(kind: type[View], body: Any) -> View:  # noqa: ANN401 - parsed JSON
    """The body as that view; UnreadableMessage names the fields, never their values (MS-14)."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        wrong = [".".join(str(part) for part in one["loc"]) + " " + one["type"] for one in error.errors()]
        raise UnreadableMessage("unreadable: " + ", ".join(wrong[:MAX_NAMED_FIELDS])) from None
