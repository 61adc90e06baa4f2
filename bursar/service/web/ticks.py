"""`/v1/ticks`: ticks from an external scheduler, and what became of one (MS-8, KC-80)."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import AwareDatetime

from bursar.db.clock import real_now
from bursar.db.ticks import insert_tick, status_of
from bursar.service.web.answers import mapping_of
from bursar.service.web.answers.operators import PublishedTickAnswer, TickAnswer
from bursar.service.web.dependencies import Web, connected
from bursar.service.web.fields import Command
from bursar.service.web.problems import documented, refused
from bursar.service.web.publishing import confirmed
from bursar.service.web.routes import COMMON_CODES, KEYED_CODES, CronRoute, documented_bearer
from bursar.sweeps.table import PLANS

TickId = Annotated[int, Path(ge=1, le=(1 << 63) - 1)]

router = APIRouter(prefix="/v1/ticks", tags=["ticks"], route_class=CronRoute, dependencies=[documented_bearer])


class TickAsked(Command):
    """When the tick was due: business time now, unless said otherwise."""

    due_at: AwareDatetime | None = None


@router.post(
    "/{sweep}",
    status_code=202,
    responses=documented(*COMMON_CODES, *KEYED_CODES, "unknown_sweep", "broker_unavailable"),
    response_model=mapping_of(PublishedTickAnswer),
)
async def post_tick(sweep: str, request: Request, web: Web, asked: TickAsked | None = None) -> dict[str, Any]:
    """Have a sweep run. The same sweep and instant again is the same tick."""
    if sweep not in PLANS:
        raise refused("unknown_sweep", f"The sweeps are {', '.join(PLANS)}.")
    async with connected(web.decider.pool) as connection:
        due_at = (asked and asked.due_at) or (await web.decider.clock.situation(connection)).now
        tick = await insert_tick(connection, sweep, due_at, real_now())
    publishing = web.publisher.publish_tick(sweep, due_at, request.state.traceparent)
    await confirmed(publishing, web.publish_timeout_seconds)
    web.metrics.ticks.labels(sweep).inc()
    return {"id": tick.id}


@router.get("/{tick_id}", responses=documented(*COMMON_CODES, "not_found"), response_model=mapping_of(TickAnswer))
async def get_tick(tick_id: TickId, web: Web) -> dict[str, Any]:
    """The state of a tick (`running`, `done` or `superseded`) and its counts per sweep so far."""
    async with connected(web.decider.pool) as connection:
        status = await status_of(connection, tick_id)
    if status is None:
        raise refused("not_found", "There is no such tick.")
    tick = status.tick
    return {"id": tick.id, "sweep": tick.sweep, "due_at": tick.due_at, "state": status.state, "counts": status.counts}
