"""A sweep run dry (KC-79): what it would cause, page by page, from transactions that Postgres keeps from writing."""

import base64
import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self

from bursar.billing.catalogue import Catalogue
from bursar.billing.kiloclaw.enforcement import Circumstances
from bursar.billing.kiloclaw.foreseeing import NOT_TODAY, Effect, foresee
from bursar.db.connections import Connection
from bursar.db.destruction_days import slots_used
from bursar.db.parts import load_accounts
from bursar.sweeps.pages import START, Cursor, Page, Window
from bursar.sweeps.table import PARTS, PLANS, SWEEPS, due_page

PAGE_ACCOUNTS = 64
MAX_PAGES = 512  # of one answer: all sweeps of all of 32 partitions take 256 when nothing is due


@dataclass(frozen=True, slots=True)
class Place:
    """How far a dry run came: business time as it was when it began, the sweep's number in the plan, the partition, how
    many destructions it listed for that day, and where the last page ended.
    """

    now: datetime
    stage: int = 0
    partition: int = 0
    destructions: int = 0
    after: Cursor = START

    def token(self) -> str:
        """As a caller hands it back."""
        fields = [self.now.isoformat(), self.stage, self.partition, self.destructions, *self.after.saved()]
        return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()

    @classmethod
    def of(cls, token: str) -> Self:
        """The place of a token; ValueError for what is none."""
        try:
            now, stage, partition, destructions, *after = json.loads(base64.urlsafe_b64decode(token.encode()))
            place = cls(
                datetime.fromisoformat(now), int(stage), int(partition), int(destructions), Cursor.of(list(after))
            )
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            raise ValueError("not a place of a dry run") from error
        if not (
            place.now.tzinfo and place.after.at.tzinfo and 0 <= place.stage <= len(SWEEPS) and place.partition >= 0
        ):
            raise ValueError("not a place of a dry run")
        return place


@dataclass(frozen=True, slots=True)
class DryRun:
    """What is run dry: a plan's name, the catalogue, the number of partitions."""

    plan: str
    catalogue: Catalogue
    partitions: int

    @property
    def sweeps(self) -> tuple[str, ...]:
        """The sweeps of accounts among those of the plan."""
        return tuple(name for name in PLANS[self.plan] if name in SWEEPS)

    async def effects(self, connection: Connection, place: Place, at_least: int) -> tuple[list[Effect], Place | None]:
        """At least that many effects if there are so many, and where to go on; None after the last.

        It stops after 512 pages, so an answer may hold fewer, with a place to go on.
        """
        effects: list[Effect] = []
        at: Place | None = place
        for _ in range(MAX_PAGES):
            if at is None or at.stage >= len(self.sweeps) or len(effects) >= at_least:
                break
            found, at = await self._page(connection, at)
            effects += found
        return effects, at if at and at.stage < len(self.sweeps) else None

    async def _page(self, connection: Connection, at: Place) -> tuple[list[Effect], Place]:
        window = Window(at.partition, at.now, self.catalogue, at.after, PAGE_ACCOUNTS)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            page = await due_page(connection, self.sweeps[at.stage], window)
            accounts = await load_accounts(connection, page.keys, PARTS) if page.keys else {}
            used = at.destructions + await slots_used(connection, at.now)
        effects: list[Effect] = []
        for key in page.keys:
            left = used + _destructions(effects) < self.catalogue.kiloclaw.grace.destructions_per_day
            foreseen = foresee(accounts[key], Circumstances(self.catalogue, at.now, slot_left=left), self.sweeps)
            # Who is found by several sweeps is listed by the first that would do something.
            effects += foreseen if foreseen and foreseen[0].sweep == self.sweeps[at.stage] else []
        return effects, self._next(replace(at, destructions=at.destructions + _destructions(effects)), page)

    def _next(self, at: Place, page: Page) -> Place:
        if page.cursor:
            return replace(at, after=page.cursor)
        if at.partition + 1 < self.partitions:
            return replace(at, partition=at.partition + 1, after=START)
        return replace(at, stage=at.stage + 1, partition=0, after=START)


def _destructions(effects: list[Effect]) -> int:
    """How many of the day's destructions they would use."""
    return sum(effect.kind == "destruction" and NOT_TODAY not in effect.condition for effect in effects)
