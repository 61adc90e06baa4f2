"""`/v1/users/{user}/credits` and paying hosting from them: balance, ledger, enrolment (CR)."""

from typing import Any

from fastapi import APIRouter
from pydantic import Field

from bursar.billing.catalogue import PaidPlan
from bursar.billing.credits.enrolment import Enrolment
from bursar.billing.values import as_dict
from bursar.db.credits import page_of_entries, statement
from bursar.db.users import auto_top_up_of
from bursar.handlers.credits import auto_top_up_item, credit_checkout_item, enrolment_item
from bursar.service.web.answers import mapping_of
from bursar.service.web.answers.credits import (
    AutoTopUpAnswer,
    CreditCheckoutAnswer,
    CreditsAnswer,
    EnrolmentAnswer,
    TransactionsAnswer,
)
from bursar.service.web.commands import decided
from bursar.service.web.dependencies import Web, connected
from bursar.service.web.fields import Command, Cursor, Id, Limit, UserId
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

router = APIRouter(prefix="/v1/users/{user}", tags=["credits"], route_class=ApiRoute, dependencies=[documented_bearer])
ENROLMENT_CODES = (
    "already_subscribed",
    "charges_stopped",
    "insufficient_credits",
    "instance_destroyed",
    "instance_exists",
    "instance_of_another",
    "operation_in_progress",
)


class WantedEnrolment(Command):
    """The plan to pay from credits, and the instance that it covers."""

    plan: PaidPlan
    instance_id: Id


class WantedTopUp(Command):
    """How much to buy, of the amounts that the catalogue offers."""

    amount_cents: int | None = Field(default=None, description="Without it, the catalogue's default.")


class AutoTopUpSetting(Command):
    """Whether a renewal that is short of money charges the card on file."""

    enabled: bool


@router.get("/credits", responses=documented(*COMMON_CODES), response_model=mapping_of(CreditsAnswer))
async def get_credits(user: UserId, web: Web) -> dict[str, Any]:
    """What the user acquired and used so far, and the balance, in microdollars (CR-1); the automatic top-up."""
    async with connected(web.decider.pool) as connection:
        tops_up = await auto_top_up_of(connection, user)
        return {**as_dict(await statement(connection, user)), "auto_top_up": tops_up}


@router.put(
    "/credits/auto-top-up", responses=documented(*COMMON_CODES, "busy"), response_model=mapping_of(AutoTopUpAnswer)
)
async def put_auto_top_up(user: UserId, asked: AutoTopUpSetting, web: Web, command_id: CommandId) -> dict[str, Any]:
    """Switch the automatic top-up on or off (CR-38); a declined payment switches it off."""
    return dict(await decided(web.decider, auto_top_up_item(command_id, user, enabled=asked.enabled)))


@router.get("/credits/transactions", responses=documented(*COMMON_CODES), response_model=mapping_of(TransactionsAnswer))
async def get_transactions(user: UserId, web: Web, cursor: Cursor = None, limit: Limit = 50) -> dict[str, Any]:
    """The entries of the user's ledger, newest first; amounts are signed (CR-1)."""
    async with connected(web.decider.pool) as connection:
        entries = await page_of_entries(connection, user, cursor, limit)
    return {
        "entries": [as_dict(entry) for entry in entries],
        "next_cursor": entries[-1].id if len(entries) == limit else None,
    }


@router.post(
    "/credits/checkout",
    responses=documented(*COMMON_CODES, *KEYED_CODES, *OPERATION_CODES, "busy", "amount_not_offered"),
    response_model=mapping_of(CreditCheckoutAnswer),
)
async def check_out(user: UserId, asked: WantedTopUp, web: Web, command_id: CommandId) -> dict[str, Any]:
    """Open a page at Stripe on which the user buys credits; they are deposited once they are paid (CR-10)."""
    page, amount = f"{web.settings.app_url.rstrip('/')}/claw", asked.amount_cents
    return dict(
        await operated(web, lambda lease: credit_checkout_item(command_id, user, amount, page, web.catalogue, lease))
    )


@router.post(
    "/kiloclaw/enroll",
    responses=documented(*COMMON_CODES, *KEYED_CODES, "busy", *ENROLMENT_CODES),
    response_model=mapping_of(EnrolmentAnswer),
)
async def enroll(user: UserId, asked: WantedEnrolment, web: Web, command_id: CommandId) -> dict[str, Any]:
    """Pay hosting from credits, beginning now (CR-20…CR-25); `insufficient_credits` tells the shortfall."""
    wanted = Enrolment(asked.plan, asked.instance_id, command_id)
    return dict(await decided(web.decider, enrolment_item(user, wanted, web.catalogue)))
