"""`/v1/ops`: the test clock, parked messages and figures, for operators and the demo."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import AwareDatetime

from bursar.db.clock import real_now, release_business_time, set_business_time
from bursar.db.figures import figures
from bursar.db.parked_pages import page_of_parked, parked_in_full
from bursar.service.web.dependencies import Web, WebDependencies, connected, snapshot
from bursar.service.web.fields import Command, Cursor, Limit
from bursar.service.web.problems import documented, refused
from bursar.service.web.routes import COMMON_CODES, ApiRoute, documented_bearer

ParkedState = Literal["retrying", "parked", "replayed", "discarded"]
ParkedId = Annotated[int, Path(ge=1, le=(1 << 63) - 1)]

router = APIRouter(prefix="/v1/ops", tags=["operators"], route_class=ApiRoute, dependencies=[documented_bearer])


class ClockChange(Command):
    """Where business time shall stand."""

    now: AwareDatetime


@router.put("/clock", responses=documented(*COMMON_CODES, "not_found"))
async def stand_clock(change: ClockChange, web: Web) -> dict[str, Any]:
    """Stand business time still at an instant, for all processes; only with BURSAR_TEST_CLOCK=1."""
    _require_test_clock(web)
    async with connected(web.decider.pool) as connection:
        await set_business_time(connection, change.now)
    return {"now": change.now}


@router.delete("/clock", responses=documented(*COMMON_CODES, "not_found"))
async def release_clock(web: Web) -> dict[str, Any]:
    """Let business time run again; only with BURSAR_TEST_CLOCK=1."""
    _require_test_clock(web)
    async with connected(web.decider.pool) as connection:
        await release_business_time(connection)
    return {"now": real_now()}


@router.get("/parked", responses=documented(*COMMON_CODES))
async def list_parked(
    web: Web, state: Annotated[ParkedState | None, Query()] = None, cursor: Cursor = None, limit: Limit = 50
) -> dict[str, Any]:
    """Parked messages, newest first (MS-7)."""
    async with connected(web.decider.pool) as connection:
        messages = await page_of_parked(connection, state, cursor, limit)
    return {
        "messages": [asdict(message) for message in messages],
        "next_cursor": messages[-1].id if len(messages) == limit else None,
    }


@router.get("/parked/{parked_id}", responses=documented(*COMMON_CODES, "not_found"))
async def show_parked(parked_id: ParkedId, web: Web) -> dict[str, Any]:
    """One parked message with its headers."""
    async with connected(web.decider.pool) as connection:
        message = await parked_in_full(connection, parked_id)
    if message is None:
        raise refused("not_found", "There is no such parked message.")
    return {**asdict(message.summary), "headers": message.headers, "body_bytes": message.body_bytes}


@router.get("/figures", responses=documented(*COMMON_CODES))
async def get_figures(web: Web) -> dict[str, Any]:
    """What was handled, what waits now and later, and how the rows stand."""
    async with snapshot(web.decider.pool) as connection:
        return await figures(connection, real_now())


def _require_test_clock(web: WebDependencies) -> None:
    if not web.settings.bursar_test_clock:
        raise refused("not_found", "The test clock is switched off.")
