"""`/v1/ops/failures`: renewals that failed, to be looked at, tried again, resolved and waived (CR-63)."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from bursar.billing.values import as_dict
from bursar.db.parked_actions import Signature
from bursar.db.renewal_failure_actions import Settled, actions_of
from bursar.db.renewal_failures import FailureState, RenewalFailure, failure_of, page_of_failures
from bursar.service.operators.renewing import FailedRenewals
from bursar.service.web.answers import mapping_of
from bursar.service.web.answers.failures import (
    FailedRenewalInFullAnswer,
    FailedRenewalsAnswer,
    RetryAnswer,
    SettledFailureAnswer,
)
from bursar.service.web.dependencies import Web, WebDependencies, connected
from bursar.service.web.fields import Cursor, Limit
from bursar.service.web.parked import Action, Actor
from bursar.service.web.problems import documented, refused
from bursar.service.web.routes import COMMON_CODES, KEYED_CODES, ApiRoute, documented_bearer

ACTION_CODES = (*COMMON_CODES, *KEYED_CODES, "not_found")

FailureId = Annotated[int, Path(ge=1, le=(1 << 63) - 1)]

router = APIRouter(
    prefix="/v1/ops/failures", tags=["operators"], route_class=ApiRoute, dependencies=[documented_bearer]
)


@router.get("", responses=documented(*COMMON_CODES), response_model=mapping_of(FailedRenewalsAnswer))
async def list_failures(
    web: Web, state: Annotated[FailureState | None, Query()] = None, cursor: Cursor = None, limit: Limit = 50
) -> dict[str, Any]:
    """Failed renewals, newest first; `superseded` are those whose row has a later boundary."""
    async with connected(web.decider.pool) as connection:
        found = await page_of_failures(connection, state, cursor, limit)
    return {
        "failures": [as_dict(one) for one in found],
        "next_cursor": found[-1].id if len(found) == limit else None,
    }


@router.get(
    "/{failure_id}",
    responses=documented(*COMMON_CODES, "not_found"),
    response_model=mapping_of(FailedRenewalInFullAnswer),
)
async def show_failure(failure_id: FailureId, web: Web) -> dict[str, Any]:
    """One failed renewal, and what was done about it."""
    failure = await _required(web, failure_id)
    async with connected(web.decider.pool) as connection:
        actions = await actions_of(connection, failure_id)
    return {**as_dict(failure), "actions": [as_dict(action) for action in actions]}


@router.post("/{failure_id}/retry", responses=documented(*ACTION_CODES, "busy"), response_model=mapping_of(RetryAnswer))
async def retry_failure(failure_id: FailureId, action: Action, actor: Actor, web: Web) -> dict[str, Any]:
    """Try the renewal again, now. `settled`: nothing was left to do; `failed`: it stays, with the new error."""
    await _required(web, failure_id)
    retried = await _renewals(web).retry(failure_id, Signature(actor, action.reason))
    return {"id": failure_id, **as_dict(retried)}


@router.post(
    "/{failure_id}/resolve", responses=documented(*ACTION_CODES), response_model=mapping_of(SettledFailureAnswer)
)
async def resolve_failure(failure_id: FailureId, action: Action, actor: Actor, web: Web) -> dict[str, Any]:
    """Say that it was put right otherwise; a second time does nothing."""
    return await _settled(web, failure_id, "resolved", Signature(actor, action.reason))


@router.post(
    "/{failure_id}/waive", responses=documented(*ACTION_CODES), response_model=mapping_of(SettledFailureAnswer)
)
async def waive_failure(failure_id: FailureId, action: Action, actor: Actor, web: Web) -> dict[str, Any]:
    """End the row's protection without a renewal; a second time does nothing."""
    return await _settled(web, failure_id, "waived", Signature(actor, action.reason))


async def _settled(web: WebDependencies, failure_id: int, state: Settled, signature: Signature) -> dict[str, Any]:
    await _required(web, failure_id)
    changed = await _renewals(web).settle(failure_id, state, signature)
    return {"id": failure_id, "state": (await _required(web, failure_id)).state, "changed": changed}


async def _required(web: WebDependencies, failure_id: int) -> RenewalFailure:
    async with connected(web.decider.pool) as connection:
        failure = await failure_of(connection, failure_id)
    if failure is None:
        raise refused("not_found", "There is no such failed renewal.")
    return failure


def _renewals(web: WebDependencies) -> FailedRenewals:
    return FailedRenewals(web.decider, web.catalogue)
