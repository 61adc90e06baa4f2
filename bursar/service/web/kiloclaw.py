"""`/v1/users/{user}/kiloclaw`: trial, provisioning, earlybird, status and the gate."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.responses import JSONResponse

from bursar.billing.account import user_key
from bursar.billing.kiloclaw.access import access
from bursar.billing.kiloclaw.rows import Hosting
from bursar.billing.kiloclaw.status import billing_status, refusal_reason
from bursar.db.items import Item
from bursar.db.parts import load_accounts
from bursar.handlers.kiloclaw_commands import destroyed_item, earlybird_item, provision_item, trial_item
from bursar.service.web.answers import mapping_of
from bursar.service.web.answers.kiloclaw import AccessAnswer, EarlybirdAnswer, InstanceAnswer, TrialAnswer
from bursar.service.web.answers.status import BillingStatusAnswer
from bursar.service.web.commands import decided
from bursar.service.web.dependencies import Web, WebDependencies, snapshot
from bursar.service.web.fields import Command, Id, UserId
from bursar.service.web.problems import documented, problem
from bursar.service.web.routes import COMMON_CODES, KEYED_CODES, ApiRoute, CommandId, documented_bearer

router = APIRouter(
    prefix="/v1/users/{user}/kiloclaw", tags=["kiloclaw"], route_class=ApiRoute, dependencies=[documented_bearer]
)
_COMMAND_CODES = (*COMMON_CODES, *KEYED_CODES, "busy")


class Provisioning(Command):
    """The instance that the product is about to make, or made."""

    instance_id: Id


class EarlybirdPurchase(Command):
    """The payment of the one-time purchase."""

    payment_id: Id


@router.post(
    "/trial",
    responses=documented(*_COMMAND_CODES, "already_subscribed", "trial_not_eligible"),
    response_model=mapping_of(TrialAnswer),
)
async def start_trial(user: UserId, web: Web, command_id: CommandId) -> dict[str, Any]:
    """Start the free trial (KC-10, KC-11)."""
    return await _decided(web, trial_item(command_id, user, web.catalogue))


@router.post(
    "/provision",
    responses=documented(*_COMMAND_CODES, "no_access", "instance_exists", "instance_destroyed", "instance_of_another"),
    response_model=mapping_of(InstanceAnswer),
)
async def provision(user: UserId, asked: Provisioning, web: Web, command_id: CommandId) -> dict[str, Any]:
    """Allow an instance, with a trial where the user is eligible for one (KC-12)."""
    return await _decided(web, provision_item(command_id, user, asked.instance_id, web.catalogue))


@router.delete(
    "/instances/{instance}",
    responses=documented(*COMMON_CODES, "busy", "unknown_instance"),
    response_model=mapping_of(InstanceAnswer),
)
async def destroy_instance(
    user: UserId, instance: Annotated[Id, Path()], web: Web, command_id: CommandId
) -> dict[str, Any]:
    """Record that the user destroyed the instance (KC-12)."""
    return await _decided(web, destroyed_item(command_id, user, instance))


@router.post(
    "/earlybird",
    responses=documented(*_COMMAND_CODES, "already_purchased", "payment_taken"),
    response_model=mapping_of(EarlybirdAnswer),
)
async def buy_earlybird(user: UserId, bought: EarlybirdPurchase, web: Web, command_id: CommandId) -> dict[str, Any]:
    """Record the one-time purchase; the same payment again changes nothing."""
    return await _decided(web, earlybird_item(command_id, user, bought.payment_id, web.catalogue))


@router.get("/status", responses=documented(*COMMON_CODES), response_model=mapping_of(BillingStatusAnswer))
async def get_status(user: UserId, web: Web) -> dict[str, Any]:
    """What the billing page shows (KC-110…KC-113)."""
    hosting, now = await _standing(web, user)
    return billing_status(hosting, web.catalogue, now)


@router.get("/access", responses=documented(*COMMON_CODES, "no_access"), response_model=mapping_of(AccessAnswer))
async def get_access(user: UserId, web: Web) -> JSONResponse:
    """The gate of every operation on an instance: 200, or 403 with the reason (KC-100, KC-101)."""
    hosting, now = await _standing(web, user)
    granted = access(hosting, web.catalogue, now)
    if granted.granted:
        return JSONResponse({"hasAccess": True, "accessReason": granted.reason})
    reason = refusal_reason(hosting, web.catalogue, now)
    return problem("no_access", "Nothing covers an instance now.", hasAccess=False, reason=reason)


async def _decided(web: WebDependencies, item: Item) -> dict[str, Any]:
    return dict(await decided(web.decider, item))


async def _standing(web: WebDependencies, user_id: str) -> tuple[Hosting, datetime]:
    """The user's rows as they stand, without a lock, and business time."""
    key = user_key(user_id)
    async with snapshot(web.decider.pool) as connection:
        account = (await load_accounts(connection, [key], {Hosting}))[key]
        return account.part(Hosting), (await web.decider.clock.situation(connection)).now
