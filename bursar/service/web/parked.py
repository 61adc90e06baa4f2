"""`/v1/ops/parked`: messages that failed, to be looked at, replayed and discarded (MS-7)."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query
from pydantic import StringConstraints

from bursar.billing.values import as_dict
from bursar.db import parked_actions
from bursar.db.clock import real_now
from bursar.db.parked_actions import Signature, actions_of
from bursar.db.parked_pages import ParkedFilter, page_of_parked, parked_in_full
from bursar.service.operators.replaying import Replaying, ReplayOutcome
from bursar.service.web.answers import mapping_of
from bursar.service.web.answers.failures import (
    DiscardAnswer,
    ParkedInFullAnswer,
    ParkedMessagesAnswer,
    ParkedState,
    ReplayAnswer,
)
from bursar.service.web.dependencies import Web, WebDependencies, connected
from bursar.service.web.fields import Command, Cursor, Limit
from bursar.service.web.problems import documented, refused
from bursar.service.web.routes import COMMON_CODES, KEYED_CODES, ApiRoute, documented_bearer

OPEN_STATES = frozenset({"retrying", "parked"})
ACTION_CODES = (*COMMON_CODES, *KEYED_CODES, "not_found", "not_parked")

ParkedId = Annotated[int, Path(ge=1, le=(1 << 63) - 1)]
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=255)]
Reason = Annotated[
    str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=500, strip_whitespace=True, min_length=1)
]
Actor = Annotated[
    str,
    StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=200, strip_whitespace=True, min_length=1),
    Header(alias="X-Actor", description="Who acts; kept with the action."),
]

router = APIRouter(prefix="/v1/ops/parked", tags=["operators"], route_class=ApiRoute, dependencies=[documented_bearer])


class Action(Command):
    """Why an operator acts."""

    reason: Reason


@router.get("", responses=documented(*COMMON_CODES), response_model=mapping_of(ParkedMessagesAnswer))
async def list_parked(
    web: Web,
    state: Annotated[ParkedState | None, Query()] = None,
    type_: Annotated[Text | None, Query(alias="type")] = None,
    account: Annotated[Text | None, Query(description="An account's key, such as `user:ada`.")] = None,
    error: Annotated[Text | None, Query(description="A part of the error.")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> dict[str, Any]:
    """Parked messages, newest first."""
    async with connected(web.decider.pool) as connection:
        messages = await page_of_parked(connection, ParkedFilter(state, type_, account, error), cursor, limit)
    return {
        "messages": [as_dict(message) for message in messages],
        "next_cursor": messages[-1].id if len(messages) == limit else None,
    }


@router.get(
    "/{parked_id}", responses=documented(*COMMON_CODES, "not_found"), response_model=mapping_of(ParkedInFullAnswer)
)
async def show_parked(parked_id: ParkedId, web: Web) -> dict[str, Any]:
    """One parked message with its headers, and what was done with it."""
    async with connected(web.decider.pool) as connection:
        message = await parked_in_full(connection, parked_id)
        actions = await actions_of(connection, parked_id)
    if message is None:
        raise refused("not_found", "There is no such parked message.")
    return {
        **as_dict(message.summary),
        "headers": message.headers,
        "body_bytes": message.body_bytes,
        "actions": [as_dict(action) for action in actions],
    }


@router.post(
    "/{parked_id}/replay", responses=documented(*ACTION_CODES, "busy"), response_model=mapping_of(ReplayAnswer)
)
async def replay_parked(
    parked_id: ParkedId,
    action: Action,
    actor: Actor,
    web: Web,
    dry_run: Annotated[bool, Query(description="Only say what it would change.")] = False,  # noqa: FBT002 - a query
) -> dict[str, Any]:
    """Decide a message again under its own id. `failed`: it stays as it was, with the new error."""
    await _require_open(web, parked_id)
    replaying = Replaying(web.decider, web.catalogue)
    if dry_run:
        prediction = (await replaying.predict([parked_id])).get(parked_id)
        if prediction is None:
            raise _not_parked()
        return {"id": parked_id, "dry_run": True, **as_dict(prediction)}
    replayed = await replaying.replay(parked_id, Signature(actor, action.reason))
    if replayed.outcome is ReplayOutcome.SETTLED:
        raise _not_parked()
    return {"id": parked_id, "dry_run": False, **as_dict(replayed)}


@router.post("/{parked_id}/discard", responses=documented(*ACTION_CODES), response_model=mapping_of(DiscardAnswer))
async def discard_parked(parked_id: ParkedId, action: Action, actor: Actor, web: Web) -> dict[str, Any]:
    """Give a message up for good: it cannot be replayed after."""
    await _require_open(web, parked_id)
    async with connected(web.decider.pool) as connection:
        signature = Signature(actor, action.reason)
        if not await parked_actions.discard(connection, [parked_id], signature, real_now()):
            raise _not_parked()
    return {"id": parked_id, "state": "discarded"}


async def _require_open(web: WebDependencies, parked_id: int) -> None:
    async with connected(web.decider.pool) as connection:
        message = await parked_in_full(connection, parked_id)
    if message is None:
        raise refused("not_found", "There is no such parked message.")
    if message.summary.state not in OPEN_STATES:
        raise _not_parked()


def _not_parked() -> Exception:
    return refused("not_parked", "This message was replayed or discarded.")
