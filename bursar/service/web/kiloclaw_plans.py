"""`/v1/users/{user}/kiloclaw`: switching the plan, taking that back, renewing a commitment (KC-42…KC-47)."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter

from bursar.billing.catalogue import PaidPlan
from bursar.handlers.kiloclaw_plans import cancel_plan_switch_item, renew_commit_item, switch_plan_item
from bursar.service.web.answers import mapping_of
from bursar.service.web.answers.kiloclaw import RenewedCommitAnswer, ScheduledPlanAnswer
from bursar.service.web.dependencies import Web
from bursar.service.web.fields import Command, UserId
from bursar.service.web.operations import operated
from bursar.service.web.problems import documented
from bursar.service.web.routes import (
    COMMON_CODES,
    KEYED_CODES,
    OPERATION_CODES,
    ApiRoute,
    CommandId,
    documented_bearer,
)

router = APIRouter(
    prefix="/v1/users/{user}/kiloclaw", tags=["kiloclaw"], route_class=ApiRoute, dependencies=[documented_bearer]
)
_CODES = (*COMMON_CODES, *KEYED_CODES, *OPERATION_CODES, "busy", "foreign_schedule")
_PAYMENT_CODES = ("payment_failed", "payment_requires_action", "insufficient_credits", "charges_stopped")


class SwitchRequest(Command):
    """The plan that is wanted next."""

    plan: PaidPlan


@router.post(
    "/switch-plan",
    responses=documented(*_CODES, "not_active", "same_plan", "cancellation_pending"),
    response_model=mapping_of(ScheduledPlanAnswer),
)
async def switch_plan(user: UserId, asked: SwitchRequest, web: Web, command_id: CommandId) -> dict[str, Any]:
    """Switch at the end of the period, or of the commitment (KC-42)."""
    switched = await operated(web, lambda lease: switch_plan_item(command_id, user, asked.plan, web.catalogue, lease))
    return _scheduled(switched)


@router.post(
    "/cancel-plan-switch",
    responses=documented(*_CODES, "no_pending_switch"),
    response_model=mapping_of(ScheduledPlanAnswer),
)
async def cancel_plan_switch(user: UserId, web: Web, command_id: CommandId) -> dict[str, Any]:
    """Take the switch back; a commitment becomes standard by itself again (KC-43, KC-44)."""
    return _scheduled(
        await operated(web, lambda lease: cancel_plan_switch_item(command_id, user, web.catalogue, lease))
    )


@router.post(
    "/renew-commit",
    responses=documented(*_CODES, *_PAYMENT_CODES, "not_commit", "not_active", "cancellation_pending"),
    response_model=mapping_of(RenewedCommitAnswer),
)
async def renew_commit(user: UserId, web: Web, command_id: CommandId) -> dict[str, Any]:
    """Pay six further months of the commitment now (KC-47)."""
    renewed = await operated(web, lambda lease: renew_commit_item(command_id, user, web.catalogue, lease))
    return {"commit_ends_at": renewed["commit_ends_at"]}


def _scheduled(kept: Mapping[str, Any]) -> dict[str, Any]:
    return {name: kept[name] for name in ("scheduled_plan", "scheduled_by", "commit_ends_at")}
