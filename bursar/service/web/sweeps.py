"""`/v1/ops/sweeps`: what a sweep would do (KC-79). To have it done, post a tick."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from bursar.billing.values import as_dict
from bursar.service.web.answers import mapping_of
from bursar.service.web.answers.operators import DryRunAnswer
from bursar.service.web.dependencies import Web, connected
from bursar.service.web.fields import Limit
from bursar.service.web.problems import documented, refused
from bursar.service.web.routes import COMMON_CODES, KEYED_CODES, ApiRoute, documented_bearer
from bursar.sweeps.dry_run import DryRun, Place
from bursar.sweeps.table import PLANS

PlaceToken = Annotated[str | None, Query(max_length=1_000, description="`next_cursor` of the answer before.")]

router = APIRouter(prefix="/v1/ops/sweeps", tags=["operators"], route_class=ApiRoute, dependencies=[documented_bearer])


@router.post(
    "/{sweep}",
    responses=documented(*COMMON_CODES, *KEYED_CODES, "unknown_sweep"),
    response_model=mapping_of(DryRunAnswer),
)
async def foresee_sweep(
    sweep: str, web: Web, dry_run: Annotated[Literal["1"], Query()], cursor: PlaceToken = None, limit: Limit = 200
) -> dict[str, Any]:
    """Each suspension, destruction, start and mail that the sweep would cause now. Changes nothing.

    An answer holds at least `limit` effects if there are so many.
    """
    assert dry_run
    if sweep not in PLANS:
        raise refused("unknown_sweep", f"The sweeps are {', '.join(PLANS)}.")
    run = DryRun(sweep, web.catalogue, web.decider.limits.partitions)
    async with connected(web.decider.pool) as connection:
        place = _place(cursor) or Place((await web.decider.clock.situation(connection)).now)
        effects, following = await run.effects(connection, place, limit)
    return {
        "sweep": sweep,
        "now": place.now,
        "effects": [as_dict(effect) for effect in effects],
        "next_cursor": following.token() if following else None,
    }


def _place(token: str | None) -> Place | None:
    try:
        return Place.of(token) if token else None
    except ValueError:
        raise refused("invalid_request", "The cursor is none of a dry run.") from None
