"""A tick's work on one partition, page by page: what is due goes straight into a batch, with the cursor and the counts
saved in the same transaction (KC-78, KC-80).
"""

from collections.abc import Sequence

import structlog
from pydantic import AwareDatetime, BaseModel, ValidationError

from bursar.billing.catalogue import Catalogue
from bursar.billing.errors import Stale, UnreadableMessage, describe
from bursar.billing.values import Value, replace
from bursar.db import ticks
from bursar.db.connections import Connection
from bursar.db.decide import Also
from bursar.db.items import Item, Outcome, OutcomeState
from bursar.db.ticks import Counts, TickProgress
from bursar.handlers.messages import ReceivedMessage
from bursar.service.deciding.decider import AT_FAULT, CONTENTION, DatabaseUnavailable, Decider
from bursar.service.ticks.failed_renewals import note_failed_renewals
from bursar.sweeps.checks import CHECKS, asking_for
from bursar.sweeps.housekeeping import keep_house
from bursar.sweeps.pages import START, Cursor, Page, Window
from bursar.sweeps.table import CREDIT_RENEWAL, PLANS, STEPS, candidate, due_page

log = structlog.get_logger()

PAGE_ACCOUNTS = 64
HOUSE_PARTITION = 0  # the one whose lane does what belongs to no partition
OF_THE_HOUSE = frozenset({STEPS, *CHECKS})


class PartitionTick(BaseModel):
    """The body of a `tick` message on a partition."""

    sweep: str
    due_at: AwareDatetime
    partition: int


NOTHING = Page((), None)


class Found(Value):
    """Where a tick goes on: at a page of that sweep, past sweeps that found nothing; `sweep` is None at the end."""

    at: TickProgress
    skipped: dict[str, dict[str, int]]
    sweep: str | None
    page: Page


class Sweeping:
    """What the lanes call. All state is in the tick's row, so any process goes on where another died."""

    def __init__(self, decider: Decider, catalogue: Catalogue) -> None:
        self._decider = decider
        self._catalogue = catalogue

    async def begin(self, message: ReceivedMessage) -> None:
        """Note a tick for a partition, once; UnreadableMessage for one that cannot be understood (MS-6, MS-8)."""
        await self._decider.with_connection(lambda connection: self.begin_on(connection, message))

    async def begin_on(self, connection: Connection, message: ReceivedMessage) -> PartitionTick:
        """Likewise, in the caller's transaction if there is one; returns the tick."""
        tick = _parsed(message, self._decider.limits.partitions)
        situation = await self._decider.clock.situation(connection)
        known = await ticks.insert_tick(connection, tick.sweep, tick.due_at, situation.real_now)
        await ticks.begin_partition(connection, known.id, tick.partition, situation.now, situation.real_now)
        return tick

    async def resume(self, partition: int) -> bool:
        """Whether a tick is under way on that partition."""
        return await self._decider.with_connection(lambda connection: ticks.running(connection, partition)) is not None

    async def page(self, partition: int) -> bool:
        """Do one page of what is under way; False when there was nothing to do. DatabaseUnavailable changes nothing."""
        progress = await self._decider.with_connection(lambda connection: ticks.running(connection, partition))
        if progress is None:
            return False
        try:
            await self._do(progress)
        except Stale:
            log.info("page overtaken", sweep=progress.tick.sweep, partition=partition)
        return True

    async def _do(self, before: TickProgress) -> None:
        found = await self._decider.with_connection(lambda connection: self._find(connection, before))
        if not found.sweep:
            await self._decider.with_connection(
                lambda connection: self._save(connection, before, found.at, found.skipped)
            )
        elif found.sweep == STEPS:
            await self._keep_house(before, found)
        elif found.sweep in CHECKS:
            await self._decide([asking_for(found.sweep, before.tick)], self._saving(before, found), found.sweep)
        else:
            found_at = zip(found.page.keys, found.page.instants, strict=True)
            items = [candidate(key, found.sweep, before.tick, self._catalogue, at) for key, at in found_at]
            await self._decide(items, self._saving(before, found), found.sweep)

    async def _find(self, connection: Connection, before: TickProgress) -> Found:
        """Pass over the sweeps that find nothing: a quiet hour costs one transaction on a partition, not one each."""
        at, skipped = before, dict[str, dict[str, int]]()
        for sweep in PLANS[before.tick.sweep][before.stage :]:
            if sweep in OF_THE_HOUSE and at.partition == HOUSE_PARTITION:
                return Found(at, skipped, sweep, NOTHING)
            page = NOTHING if sweep in OF_THE_HOUSE else await self._due(connection, sweep, at)
            if page.keys:
                return Found(at, skipped, sweep, page)
            if sweep not in OF_THE_HOUSE:
                skipped[sweep] = _counts(())
            at = _moved(at, None)
        return Found(at, skipped, None, NOTHING)

    async def _due(self, connection: Connection, sweep: str, progress: TickProgress) -> Page:
        after = Cursor.of(progress.cursor) if progress.cursor else START
        window = Window(progress.partition, progress.cutoff, self._catalogue, after, PAGE_ACCOUNTS)
        return await due_page(connection, sweep, window)

    async def _decide(self, items: Sequence[Item], also: Also, sweep: str) -> None:
        """All in one transaction; where one of them cannot be saved, each on its own, and the cursor after them."""
        try:
            outcomes = await self._decider.decide_together(items, also)
        except (Stale, DatabaseUnavailable):
            raise
        except (*AT_FAULT, *CONTENTION):
            outcomes = await self._decider.decide(items)
            await self._decider.with_connection(lambda connection: _alone(connection, outcomes, also))
        for outcome in outcomes:
            if outcome.error:
                log.error("item failed", sweep=sweep, account=outcome.item.key, error=describe(outcome.error))

    def _saving(self, before: TickProgress, found: Found) -> Also:
        async def also(connection: Connection, outcomes: Sequence[Outcome]) -> None:
            moved = _moved(found.at, found.page.cursor.saved() if found.page.cursor else None)
            counts = _asked(outcomes) if found.sweep in CHECKS else _counts(outcomes)
            await self._save(connection, before, moved, found.skipped | {found.sweep or "": counts})
            if found.sweep == CREDIT_RENEWAL:
                real_now = (await self._decider.clock.situation(connection)).real_now
                await note_failed_renewals(connection, outcomes, found.page.instants, real_now)

        return also

    async def _keep_house(self, before: TickProgress, found: Found) -> None:
        async def keep(connection: Connection) -> None:
            async with connection.transaction():
                kept = await keep_house(connection, before.began_at, first=found.at.cursor is None)
                moved = _moved(found.at, [_round(found.at) + 1] if kept.more else None)
                await self._save(connection, before, moved, found.skipped | {STEPS: kept.counts})

        await self._decider.with_connection(keep)

    async def _save(self, connection: Connection, before: TickProgress, moved: TickProgress, counts: Counts) -> None:
        """Stale when another has moved the row meanwhile: a zombie's late page changes nothing."""
        after = replace(moved, counts=ticks.added(before.counts, counts))
        is_last = after.stage == len(PLANS[after.tick.sweep])
        real_now = (await self._decider.clock.situation(connection)).real_now
        if not await ticks.save_progress(connection, before, after, real_now if is_last else None):
            raise Stale("another has moved this tick on")


def _parsed(message: ReceivedMessage, partitions: int) -> PartitionTick:
    try:
        tick = PartitionTick.model_validate_json(message.body)
    except ValidationError as error:
        fields = [".".join(map(str, one["loc"])) for one in error.errors(include_input=False)]
        raise UnreadableMessage(f"unreadable tick: {', '.join(fields)}") from None
    if tick.sweep not in PLANS:
        raise UnreadableMessage(f"there is no sweep {tick.sweep[:80]!r}")
    if not 0 <= tick.partition < partitions:
        raise UnreadableMessage(f"there is no partition {tick.partition}")
    return tick


def _moved(progress: TickProgress, cursor: list[str] | list[int] | None) -> TickProgress:
    """On to the next page, or to the next sweep of the plan."""
    return replace(progress, stage=progress.stage + (cursor is None), cursor=cursor)


def _round(progress: TickProgress) -> int:
    return int(progress.cursor[0]) if progress.cursor else 0


def _counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """KC-80: found, changed, mails sent, mails skipped, failed; and whatever else the decisions counted."""
    counts = {"found": len(outcomes), "changed": 0, "mails_sent": 0, "mails_skipped": 0, "failed": 0}
    for outcome in outcomes:
        counts["failed"] += outcome.state is OutcomeState.FAILED
        for name, number in (outcome.decision.counts if outcome.decision else {}).items():
            counts[name] = counts.get(name, 0) + number
    return counts


def _asked(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Of a check: what it found is reported once its step is done."""
    return {"asked": sum(outcome.state is OutcomeState.APPLIED for outcome in outcomes)}


async def _alone(connection: Connection, outcomes: Sequence[Outcome], also: Also) -> None:
    async with connection.transaction():
        await also(connection, outcomes)
