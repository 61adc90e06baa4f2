"""Reconciliation: Stripe's list of subscriptions and the rows, compared page by page in both directions (MS-10)."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from bursar.billing.account import CUSTOMER_PREFIX, customer_key, user_key
from bursar.billing.catalogue import Catalogue
from bursar.billing.errors import Permanent
from bursar.billing.kiloclaw.reconciling import Finding, FindingKind, Owned, compared
from bursar.billing.stripe.objects import StripeSubscription
from bursar.db import reconciliation
from bursar.db.connections import Connection
from bursar.db.items import OutcomeState
from bursar.handlers.messages import resolve_accounts
from bursar.handlers.reconciling import repair_item
from bursar.service.checks.listing import SubscriptionsListing
from bursar.service.deciding.decider import Decider
from bursar.service.gateways.stripe.pages import SubscriptionsPage

MAX_PAGES = 50_000  # of 100 subscriptions
MAX_LISTED = 1_000  # findings told one by one; all are counted
MAX_LOOKED_UP = 1_000  # rows that Stripe's list lacks, each retrieved
UNSEEN_AT_ONCE = 100
MAX_REPAIRS = 10_000
REPAIRS_AT_ONCE = 64

SoFar = Callable[[int], Awaitable[None]]  # told how many subscriptions there were so far


@dataclass(slots=True)
class Report:
    """What a run found. `findings` are the first 1,000; `not_looked_up` rows are for the next run."""

    compared: int = 0
    counts: Counter[FindingKind] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    repairs_asked: int = 0
    not_looked_up: int = 0


class Reconciling:
    """Asks for the reads that repair at most `repairs` findings; changes nothing else."""

    def __init__(self, stripe: SubscriptionsListing, decider: Decider, catalogue: Catalogue, *, repairs: int) -> None:
        self._stripe = stripe
        self._decider = decider
        self._catalogue = catalogue
        self._repairs = min(repairs, MAX_REPAIRS)

    async def run(self, so_far: SoFar) -> Report:
        """One run through everything. Raises `Retryable` or `Permanent` where Stripe or Postgres does not answer."""
        report, began_at = Report(), await self._now()
        run = await self._decider.with_connection(reconciliation.begin)
        try:
            await self._list(report, run, so_far)
            await self._look_up_unseen(report, run, began_at, so_far)
        finally:
            await self._decider.with_connection(lambda connection: reconciliation.forget(connection, run))
        return report

    async def _list(self, report: Report, run: UUID, so_far: SoFar) -> None:
        after: str | None = None
        for _ in range(MAX_PAGES):
            listed_at = await self._now()
            page = await self._stripe.subscriptions_page(starting_after=after)
            await self._compare(report, page, run, listed_at)
            await so_far(report.compared)
            after = page.last_id
            if not page.has_more or after is None:
                return
        raise Permanent(f"Stripe has more than {MAX_PAGES} pages of subscriptions")

    async def _compare(self, report: Report, page: SubscriptionsPage, run: UUID, listed_at: datetime) -> None:
        ours = [one for one in page.subscriptions if one.is_kiloclaw]
        ids = [one.id for one in page.subscriptions]

        async def know(connection: Connection) -> tuple[dict[str, Owned], dict[str, str]]:
            real_now = (await self._decider.clock.situation(connection)).real_now
            await reconciliation.note_seen(connection, run, ids, real_now)
            return await reconciliation.rows_of(connection, ids), await _owners(connection, ours)

        rows, owners = await self._decider.with_connection(know)
        found = [
            compared(one, rows.get(one.id), owners.get(one.id), self._catalogue, listed_at)
            for one in page.subscriptions
            if one.is_kiloclaw or one.id in rows
        ]
        unreadable = [Finding(FindingKind.UNREADABLE, text) for text in page.unreadable]
        report.compared += len(found)
        await self._note(report, [*unreadable, *(one for one in found if one)])

    async def _look_up_unseen(self, report: Report, run: UUID, began_at: datetime, so_far: SoFar) -> None:
        """A row whose subscription the list lacks: retrieved, since the list may have moved while it was read."""
        looked_up = 0
        ids = await self._unseen(run, began_at, "")
        while ids:
            if looked_up >= MAX_LOOKED_UP:
                report.not_looked_up += len(ids)
            else:
                for subscription_id in ids:
                    await self._look_up(report, subscription_id)
                    await so_far(report.compared)
            looked_up += len(ids)
            ids = await self._unseen(run, began_at, ids[-1])

    async def _unseen(self, run: UUID, began_at: datetime, after: str) -> list[str]:
        return await self._decider.with_connection(
            lambda connection: reconciliation.unseen(connection, run, began_at, after, UNSEEN_AT_ONCE)
        )

    async def _look_up(self, report: Report, subscription_id: str) -> None:
        listed_at = await self._now()
        there = await self._stripe.retrieve_subscription(subscription_id)
        rows = await self._decider.with_connection(
            lambda connection: reconciliation.rows_of(connection, [subscription_id])
        )
        report.compared += 1
        owned = rows.get(subscription_id)
        if owned is None:
            return
        missing = Finding(FindingKind.MISSING_THERE, subscription_id, owned.account_key)
        found = compared(there, owned, None, self._catalogue, listed_at) if there else missing
        await self._note(report, [found] if found else [])

    async def _note(self, report: Report, found: Sequence[Finding]) -> None:
        report.counts.update(one.kind for one in found)
        report.findings += found[: MAX_LISTED - len(report.findings)]
        items = [
            repair_item(one, one.account_key, self._catalogue)
            for one in found
            if one.is_repairable and one.account_key is not None
        ]
        while items and report.repairs_asked < self._repairs:
            at_once = min(REPAIRS_AT_ONCE, self._repairs - report.repairs_asked)
            outcomes = await self._decider.decide(items[:at_once])
            asked = [one for one in outcomes if one.decision and "repairs_asked" in one.decision.counts]
            report.repairs_asked += sum(one.state is OutcomeState.APPLIED for one in asked)
            items = items[at_once:]

    async def _now(self) -> datetime:
        return (await self._decider.with_connection(self._decider.clock.situation)).now


async def _owners(connection: Connection, ours: Sequence[StripeSubscription]) -> dict[str, str]:
    """The account that each names: its user, else the user of its customer; none for a customer nobody knows."""
    keys = {one.id: _named(one) for one in ours}
    resolved = await resolve_accounts(connection, {key for key in keys.values() if key})
    known = {one: resolved[key] for one, key in keys.items() if key}
    return {one: key for one, key in known.items() if not key.startswith(CUSTOMER_PREFIX)}


def _named(subscription: StripeSubscription) -> str | None:
    user_id = subscription.metadata.get("userId")
    if user_id:
        return user_key(user_id)
    return customer_key(subscription.customer) if subscription.customer else None
