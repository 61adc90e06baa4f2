"""`/v1/users/{user}`: the profile, and the history of the user's rows."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field, StringConstraints, field_validator

from bursar.billing.account import user_key
from bursar.billing.values import as_dict
from bursar.db.clock import real_now
from bursar.db.history import page_of_history
from bursar.handlers.users import adopting, customer_item, profile_item
from bursar.service.web.answers import mapping_of
from bursar.service.web.answers.users import DeletedUserAnswer, HistoryAnswer, ProfileAnswer
from bursar.service.web.commands import decided, decided_together
from bursar.service.web.deleting import deleted, known_again
from bursar.service.web.dependencies import Web, connected
from bursar.service.web.fields import Command, Cursor, Limit, UserId
from bursar.service.web.problems import documented
from bursar.service.web.routes import COMMON_CODES, ApiRoute, CommandId, documented_bearer

Email = Annotated[str, StringConstraints(pattern=r"^[^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+$", max_length=254)]
Name = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=200)]
CustomerId = Annotated[str, StringConstraints(pattern=r"^cus_[A-Za-z0-9_]{1,200}$")]

router = APIRouter(prefix="/v1/users/{user}", tags=["users"], route_class=ApiRoute, dependencies=[documented_bearer])


class UserChange(Command):
    """What changed of a user; a field that is not there keeps its value, null empties it."""

    email: Email | None = None
    name: Name | None = None
    stripe_customer_id: CustomerId | None = None
    auto_top_up: bool = Field(default=False, description="Whether credits are topped up automatically.")

    @field_validator("stripe_customer_id")
    @classmethod
    def _customer_stays(cls, customer_id: str | None) -> str | None:
        if customer_id is None:
            raise ValueError("a Stripe customer can be replaced, not taken away")
        return customer_id


@router.put(
    "", responses=documented(*COMMON_CODES, "busy", "stripe_customer_taken"), response_model=mapping_of(ProfileAnswer)
)
async def put_user(user: UserId, change: UserChange, web: Web, command_id: CommandId) -> dict[str, Any]:
    """Tell what the product knows of a user; makes the user where there is none, or where one was deleted."""
    await known_again(web.decider, user, change.stripe_customer_id)
    profile = profile_item(command_id, user, change.model_dump(exclude_unset=True))
    if change.stripe_customer_id is None:
        return dict(await decided(web.decider, profile))
    customer_id = change.stripe_customer_id
    also = adopting(profile, customer_id, real_now())
    return dict(await decided_together(web.decider, profile, customer_item(command_id, customer_id), also))


@router.delete(
    "",
    responses=documented(*COMMON_CODES, "busy", "user_not_deletable", "operation_in_progress"),
    response_model=mapping_of(DeletedUserAnswer),
)
async def delete_user(user: UserId, web: Web, command_id: CommandId) -> dict[str, Any]:
    """Delete a user and all that is known of them; again is the same (KC-120, KC-121).

    Refused while the subscription is active and not canceled, past due or unpaid. Instances are destroyed and the
    subscription is ended at Stripe soon after.
    """
    await deleted(web.decider, user, command_id)
    return {"user_id": user, "deleted": True}


@router.get("/history", responses=documented(*COMMON_CODES), response_model=mapping_of(HistoryAnswer))
async def get_history(user: UserId, web: Web, cursor: Cursor = None, limit: Limit = 50) -> dict[str, Any]:
    """What changed in the user's rows, newest first: before, after, by what message, and why (KC-4)."""
    async with connected(web.decider.pool) as connection:
        entries = await page_of_history(connection, user_key(user), cursor, limit)
    return {
        "entries": [as_dict(entry) for entry in entries],
        "next_cursor": entries[-1].id if len(entries) == limit else None,
    }
