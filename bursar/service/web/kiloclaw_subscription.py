"""`/v1/users/{user}/kiloclaw`: checkout, canceling, reactivating and the billing portal, all of which ask Stripe."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import StringConstraints

from bursar.billing.account import Profile, user_key
from bursar.billing.catalogue import PaidPlan
from bursar.billing.kiloclaw.operations.checkout import WantedCheckout
from bursar.billing.kiloclaw.operations.portal import portal_customer
from bursar.billing.kiloclaw.rows import Hosting
from bursar.db.parts import load_accounts
from bursar.handlers.kiloclaw_commands import cancel_item, checkout_item, reactivate_item
from bursar.service.web.answers import mapping_of
from bursar.service.web.answers.kiloclaw import CancellationAnswer, CheckoutAnswer, PortalAnswer, ReactivationAnswer
from bursar.service.web.dependencies import Web, WebDependencies, snapshot
from bursar.service.web.fields import Command, UserId, WebAddress
from bursar.service.web.operations import operated
from bursar.service.web.portal import open_portal
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
_CODES = (*COMMON_CODES, *KEYED_CODES, *OPERATION_CODES, "busy")

Referral = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,200}$")]


class CheckoutRequest(Command):
    """What is bought, where Stripe sends the user afterwards, and who referred the user."""

    plan: PaidPlan
    success_url: WebAddress
    cancel_url: WebAddress
    referral: Referral | None = None


class PortalRequest(Command):
    """Where the portal leads back to."""

    return_url: WebAddress


@router.post(
    "/checkout", responses=documented(*_CODES, "already_subscribed"), response_model=mapping_of(CheckoutAnswer)
)
async def check_out(user: UserId, asked: CheckoutRequest, web: Web, command_id: CommandId) -> dict[str, Any]:
    """Open a page at Stripe on which the user subscribes; older ones of the user are closed (KC-20…KC-23)."""
    wanted = WantedCheckout(asked.plan, asked.success_url, asked.cancel_url, asked.referral)
    return dict(await operated(web, lambda lease: checkout_item(command_id, user, wanted, web.catalogue, lease)))


@router.post(
    "/cancel",
    responses=documented(*_CODES, "no_subscription", "already_canceling", "foreign_schedule"),
    response_model=mapping_of(CancellationAnswer),
)
async def cancel(user: UserId, web: Web, command_id: CommandId) -> dict[str, Any]:
    """Cancel at the period's end; access lasts until then (KC-50, KC-51)."""
    return dict(await operated(web, lambda lease: cancel_item(command_id, user, lease)))


@router.post(
    "/reactivate",
    responses=documented(*_CODES, "not_canceling", "foreign_schedule"),
    response_model=mapping_of(ReactivationAnswer),
)
async def reactivate(user: UserId, web: Web, command_id: CommandId) -> dict[str, Any]:
    """Take a pending cancellation back; a commit plan has its automatic schedule again (KC-52)."""
    result = await operated(web, lambda lease: reactivate_item(command_id, user, web.catalogue, lease))
    return {"cancel_at_period_end": result["cancel_at_period_end"]}


@router.post(
    "/billing-portal",
    responses=documented(
        *COMMON_CODES, *KEYED_CODES, "billing_portal_unavailable", "stripe_refused", "stripe_unavailable"
    ),
    response_model=mapping_of(PortalAnswer),
)
async def open_billing_portal(user: UserId, asked: PortalRequest, web: Web, command_id: CommandId) -> dict[str, Any]:
    """Open Stripe's billing portal: payment methods and invoices, no canceling or switching (KC-54)."""
    customer_id = await _portal_customer(web, user)
    return {"url": await open_portal(web, customer_id, asked.return_url, command_id)}


async def _portal_customer(web: WebDependencies, user_id: str) -> str:
    key = user_key(user_id)
    async with snapshot(web.decider.pool) as connection:
        account = (await load_accounts(connection, [key], {Hosting, Profile}))[key]
    return portal_customer(account.part(Hosting), account.part(Profile).stripe_customer_id)
