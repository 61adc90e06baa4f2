"""`/v1/ops`: the test clock and figures, for operators and the demo."""

from typing import Any

from fastapi import APIRouter
from pydantic import AwareDatetime

from bursar.db.clock import real_now, release_business_time, set_business_time
from bursar.db.figures import figures
from bursar.service.web.answers import mapping_of
from bursar.service.web.answers.operators import ClockAnswer, FiguresAnswer
from bursar.service.web.dependencies import Web, WebDependencies, connected
from bursar.service.web.fields import Command
from bursar.service.web.problems import documented, refused
from bursar.service.web.routes import COMMON_CODES, ApiRoute, documented_bearer

router = APIRouter(prefix="/v1/ops", tags=["operators"], route_class=ApiRoute, dependencies=[documented_bearer])


class ClockChange(Command):
    """Where business time shall stand."""

    now: AwareDatetime


@router.put("/clock", responses=documented(*COMMON_CODES, "not_found"), response_model=mapping_of(ClockAnswer))
async def stand_clock(change: ClockChange, web: Web) -> dict[str, Any]:
    """Stand business time still at an instant, for all processes; only with BURSAR_TEST_CLOCK=1."""
    _require_test_clock(web)
    async with connected(web.decider.pool) as connection:
        await set_business_time(connection, change.now)
    return {"now": change.now}


@router.delete("/clock", responses=documented(*COMMON_CODES, "not_found"), response_model=mapping_of(ClockAnswer))
async def release_clock(web: Web) -> dict[str, Any]:
    """Let business time run again; only with BURSAR_TEST_CLOCK=1."""
    _require_test_clock(web)
    async with connected(web.decider.pool) as connection:
        await release_business_time(connection)
    return {"now": real_now()}


@router.get("/figures", responses=documented(*COMMON_CODES), response_model=mapping_of(FiguresAnswer))
async def get_figures(web: Web) -> dict[str, Any]:
    """What was handled, what waits now and later, and how the rows stand."""
    async with connected(web.decider.pool) as connection:
        return await figures(connection, real_now())


def _require_test_clock(web: WebDependencies) -> None:
    if not web.settings.bursar_test_clock:
        raise refused("not_found", "The test clock is switched off.")
