"""The forms of ids, cursors and bodies that the API takes."""

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

MAX_PAGE = 200

# Printable ASCII without space and slash: it goes into account keys, step keys and addresses.
Id = Annotated[str, StringConstraints(pattern=r"^[!-.0-~]{1,200}$")]
UserId = Annotated[Id, Path(alias="user", description="The product's id of the user.")]
Cursor = Annotated[int | None, Query(ge=1, le=(1 << 63) - 1, description="`next_cursor` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]


def _with_a_host(address: str) -> str:
    if not urlsplit(address).hostname:
        raise ValueError("names no host")
    return address


# Where Stripe sends the user back to. Kept as it is: Stripe fills in `{CHECKOUT_SESSION_ID}`.
WebAddress = Annotated[
    str, StringConstraints(pattern=r"^https?://[!-~]+$", max_length=2000), AfterValidator(_with_a_host)
]


class Command(BaseModel):
    """Base of the bodies: no unknown field."""

    model_config = ConfigDict(extra="forbid")
