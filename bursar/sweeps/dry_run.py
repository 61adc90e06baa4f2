"""A sweep run dry (KC-79): what it would cause, page by page, from transactions that Postgres keeps from writing."""

import base64
import json
from datetime import datetime
from typing import Self

from bursar.billing.account import Account, Profile
from bursar.billing.catalogue import Catalogue
from bursar.billing.kiloclaw.enforcement import Circumstances, enforce
from bursar.billing.kiloclaw.foreseeing import NOT_TODAY, Effect, first_to_act, foresee
from bursar.billing.kiloclaw.mail import warns_too_late
from bursar.billing.kiloclaw.outcomes import mail_still_wanted
from bursar.billing.kiloclaw.rows import MailKey
from bursar.billing.values import Value, replace
from bursar.db.connections import Connection
from bursar.db.destruction_days import slots_used
from bursar.db.parts import load_accounts
from bursar.db.skipped_mails import SkippedMail, skipped_mails
from bursar.sweeps.pages import START, Cursor, Page, Window
from bursar.sweeps.table import PARTS, PLANS, STEPS, SWEEPS, due_page

PAGE_ACCOUNTS = 64
IF_CONFIGURED = "if mails are configured"
MAX_PAGES = 512  # of one answer: all sweeps of all of 32 partitions take 256 when nothing is due


class Place(Value):
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
            place.now.tzinfo and place.after.at.tzinfo and 0 <= place.stage <= len(SWEEPS) + 1 and place.partition >= 0
        ):
            raise ValueError("not a place of a dry run")
        return place


class DryRun(Value):
    """What is run dry: a plan's name, the catalogue, the number of partitions."""

    plan: str
    catalogue: Catalogue
    partitions: int

    @property
    def sweeps(self) -> tuple[str, ...]:
        """The sweeps of the plan that cause something: those of accounts, and the one that sends skipped mails."""
        return tuple(name for name in PLANS[self.plan] if name in SWEEPS or name == STEPS)

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
        if self.sweeps[at.stage] == STEPS:
            return await self._mails_page(connection, at)
        return await self._sweep_page(connection, at)

    async def _mails_page(self, connection: Connection, at: Place) -> tuple[list[Effect], Place]:
        """Skipped mails that are still true once the sweeps before have done their part (KC-88)."""
        after = (at.after.at, int(at.after.key or 0))
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            found = await skipped_mails(connection, after, PAGE_ACCOUNTS)
            accounts = await load_accounts(connection, [one.account_key for one in found], PARTS) if found else {}
        facts = Circumstances(self.catalogue, at.now)
        left = {key: enforce(account, facts, self.sweeps).account for key, account in accounts.items()}
        effects = [_mail(one) for one in found if _would_be_sent(one, left[one.account_key], at.now)]
        if len(found) < PAGE_ACCOUNTS:
            return effects, replace(at, stage=at.stage + 1, after=START)
        return effects, replace(at, after=Cursor(found[-1].created_at, str(found[-1].step_id)))

    async def _sweep_page(self, connection: Connection, at: Place) -> tuple[list[Effect], Place]:
        window = Window(at.partition, at.now, self.catalogue, at.after, PAGE_ACCOUNTS)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            page = await due_page(connection, self.sweeps[at.stage], window)
            accounts = await load_accounts(connection, page.keys, PARTS) if page.keys else {}
            used = at.destructions + await slots_used(connection, at.now)
        effects: list[Effect] = []
        for key in page.keys:
            left = used + _destructions(effects) < self.catalogue.kiloclaw.grace.destructions_per_day
            facts = Circumstances(self.catalogue, at.now, slot_left=left)
            # Who is found by several sweeps is listed by the first that would do something.
            if first_to_act(accounts[key], facts, self.sweeps) == self.sweeps[at.stage]:
                effects += foresee(accounts[key], facts, self.sweeps)
        return effects, self._next(replace(at, destructions=at.destructions + _destructions(effects)), page)

    def _next(self, at: Place, page: Page) -> Place:
        if page.cursor:
            return replace(at, after=page.cursor)
        if at.partition + 1 < self.partitions:
            return replace(at, partition=at.partition + 1, after=START)
        return replace(at, stage=at.stage + 1, partition=0, after=START)


def _would_be_sent(skipped: SkippedMail, account: Account, now: datetime) -> bool:
    mail = MailKey(skipped.payload["email_type"], skipped.payload["cycle"])
    is_true = mail_still_wanted(account, mail) and not warns_too_late(skipped.payload, now)
    return account.part(Profile).email is not None and is_true


def _mail(skipped: SkippedMail) -> Effect:
    subject = str(skipped.payload["email_type"])
    return Effect(STEPS, "mail", skipped.account_key, subject, "skipped before, still true", IF_CONFIGURED)


def _destructions(effects: list[Effect]) -> int:
    """How many of the day's destructions they would use."""
    return sum(effect.kind == "destruction" and NOT_TODAY not in effect.condition for effect in effects)
