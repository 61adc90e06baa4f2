"""Carrying operations at Stripe forward, or back, beat by beat: whoever comes after a crash goes on where it ended."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import structlog

from bursar.billing.account import Account
from bursar.billing.catalogue import Catalogue
from bursar.billing.errors import CallRefused, KeyRefused, KeySpent, Permanent, Retryable, Stale
from bursar.billing.operations import MAX_CALLS, UNWANTED, Ended, Failure, Journal, Operation, Plan, advance
from bursar.billing.steps import StepKind
from bursar.billing.stripe.calls import Call
from bursar.db import operations
from bursar.db.connections import Connection
from bursar.db.items import Item, Situation
from bursar.db.parts import load_locked
from bursar.db.steps import ClaimedStep
from bursar.handlers.operations import is_still_wanted, operation_ended, operation_of, parts_of
from bursar.service.deciding.decider import CONTENTION, Decider
from bursar.service.steps.bounds import LEASE, STEPS
from bursar.service.steps.jobs import BeginCall, StepJob
from bursar.service.steps.together import patiently

log = structlog.get_logger()

GIVE_UP_AFTER = timedelta(minutes=15)  # real time since a command began: nobody waits for it any more
KEYS_LIVE = timedelta(hours=23)  # Stripe forgets an idempotency key after 24
OPEN_RETRY_SECONDS = 5.0
MAX_BEATS = 4 * MAX_CALLS  # of one attempt: every call forward and back, with room for what is only written down
MAX_KEY_CHARACTERS = 255  # Stripe's bound


class StripeCalls(Protocol):
    """One call to Stripe, as our view of its object in JSON.

    Raises `CallRefused` (Stripe said no: nothing happened), `KeySpent` (it would answer the same for this key again),
    `Retryable` (unknown or passing) or `Permanent`.
    """

    async def call(self, call: Call, idempotency_key: str) -> Mapping[str, Any]: ...


class _NoLongerWanted(Stale):
    """Found out before anything was changed."""


@dataclass(slots=True)
class _Run:
    """One attempt at a step."""

    step: ClaimedStep
    plan: Callable[[], Plan]
    journal: Journal
    give_up: bool
    look_again: bool  # after a pause in which others may have changed what was read
    still_wanted: Callable[[Account, Situation], bool] | None
    kept: Journal  # what a refused key cannot undo: as it was at first, then with whatever has happened at Stripe

    def asks_before(self, call: Call) -> bool:
        """Whether to ask first if the operation is still wanted: not while an outcome is unknown."""
        is_first = not self.journal.everything and not self.journal.round
        return self.still_wanted is not None and not self.journal.in_flight and (is_first or call.settles)


class OperationCarrier:
    """Carries one kind of operation to its end. Used by the crew of a worker, and by the request that began it."""

    def __init__(
        self,
        kind: StepKind,
        stripe: StripeCalls,
        known: Mapping[str, Operation[Any]],
        decider: Decider,
        catalogue: Catalogue,
    ) -> None:
        self.kind = kind
        self._stripe = stripe
        self._known = known
        self._decider = decider
        self._catalogue = catalogue

    async def attempt(self, job: StepJob, _: BeginCall) -> Item:
        """The end, to be decided on. Raises `Retryable`, `Permanent`, or `Stale` once the lease is another's."""
        operation, asked = operation_of(job.step, self._known)
        if self.kind is StepKind.KEEP_SCHEDULE:
            await self._stand_back(job.step)
        journal = operations.journal_of(job.step)

        def still_wanted(account: Account, situation: Situation) -> bool:
            return is_still_wanted(job.step, operation, asked, account, situation, self._catalogue)

        run = _Run(
            step=job.step,
            plan=lambda: operation.plan(asked),
            journal=journal,
            give_up=self.kind is StepKind.OPERATION and _is_old(job),
            look_again=self.kind is StepKind.KEEP_SCHEDULE and bool(journal.entries) and journal.failure is None,
            still_wanted=still_wanted if operation.still_wanted else None,
            kept=journal,
        )
        try:
            async with asyncio.timeout(STEPS[self.kind].timeout_seconds):
                ended = await self._carry(run)
        except _NoLongerWanted:
            log.info("operation no longer wanted", operation=operation.name)
            ended = Ended(None, UNWANTED)
        except TimeoutError:
            raise Retryable("the operation took too long for one attempt") from None
        if ended.not_undone:
            log.error("operation not taken back", operation=operation.name, calls=ended.not_undone)
        return operation_ended(job.step, operation, asked, ended, self._catalogue)

    async def _carry(self, run: _Run) -> Ended:
        for _ in range(MAX_BEATS):
            if run.look_again and await self._may_look_again(run.journal):
                await self._write(run, run.journal.next_round())
                run.look_again = False
            match advance(run.plan, run.journal, give_up=run.give_up):
                case Ended() as ended:
                    return ended
                case Failure() as failure:
                    await self._write(run, run.journal.failing(failure))
                    run.kept = run.journal
                case Call() as call:
                    await self._call(run, call)
        raise Permanent(f"an attempt has at most {MAX_BEATS} beats")

    async def _may_look_again(self, journal: Journal) -> bool:
        """What is in flight is first made again under its key, unless Stripe has forgotten that (MS-11)."""
        if journal.in_flight is None:
            return True
        return _is_forgotten(journal, await self._decider.with_connection(self._real_now))

    async def _call(self, run: _Run, call: Call) -> None:
        """One call between two entries of the journal. An unknown outcome leaves it begun: it is made again, under the
        same key.
        """
        await self._begin(run, call)
        try:
            answer = await self._stripe.call(call, key_of(run.step, run.journal, call))
        except CallRefused as refusal:
            await self._write(run, run.journal.refused(call, refusal))
        except KeySpent:
            if call.changes_stripe:
                await self._write(run, run.journal.next_round())
            raise
        except KeyRefused:
            await self._write(run, run.kept)  # nothing was begun, and what was read is read anew
            raise
        else:
            await self._write(run, run.journal.answered(call, answer))
        if call.changes_stripe:
            run.kept = run.journal

    async def _begin(self, run: _Run, call: Call) -> None:
        begun = run.journal
        if call.changes_stripe:
            now = await self._decider.with_connection(self._real_now)
            _require_living_key(run.journal, now)
            begun = run.journal.begun(call, now)
        if run.asks_before(call):
            await self._begin_if_wanted(run, begun)
        elif call.changes_stripe:
            await self._write(run, begun)

    async def _begin_if_wanted(self, run: _Run, begun: Journal) -> None:
        """Ask under the account's lock, and write down in the same transaction that it begins: what ends the wish
        either comes before, or finds it begun. Raises `_NoLongerWanted`.
        """

        async def begin(connection: Connection) -> bool:
            async with connection.transaction():
                account = await load_locked(connection, run.step.account_key, parts_of(run.step))
                situation = await self._decider.clock.situation(connection)
                if run.still_wanted and not run.still_wanted(account, situation):
                    raise _NoLongerWanted("no longer wanted")
                return await operations.write_journal(connection, run.step, begun, situation.real_now + LEASE)

        try:
            has_begun = await self._decider.with_connection(begin)
        except CONTENTION:
            raise Retryable("the account is busy") from None
        if not has_begun:
            raise Stale("the lease is another's")
        run.journal = begun

    async def _write(self, run: _Run, journal: Journal) -> None:
        async def write(connection: Connection) -> bool:
            lease_until = await self._real_now(connection) + LEASE
            return await operations.write_journal(connection, run.step, journal, lease_until)

        if not await patiently(lambda: self._decider.with_connection(write)):
            raise Stale("the lease is another's")
        run.journal = journal

    async def _stand_back(self, step: ClaimedStep) -> None:
        """A schedule is not kept while a command changes the subscription; a command waits while one is kept."""
        try:
            is_open = await self._decider.with_connection(
                lambda connection: operations.has_open(connection, step.account_key)
            )
        except CONTENTION:
            raise Retryable("the account is busy") from None
        if is_open:
            raise Retryable("an operation of the account is open", retry_after_seconds=OPEN_RETRY_SECONDS)

    async def _real_now(self, connection: Connection) -> datetime:
        return (await self._decider.clock.situation(connection)).real_now


def key_of(step: ClaimedStep, journal: Journal, call: Call) -> str:
    """Stripe's idempotency key of a call: the same for whoever makes it, new for each round (MS-11)."""
    if call.idempotency_key:
        return f"{call.idempotency_key}:{journal.round}" if journal.round else call.idempotency_key
    key = f"{step.key}:{step.asked}:{journal.round}:{call.name}"
    return key if len(key) <= MAX_KEY_CHARACTERS else hashlib.sha256(key.encode()).hexdigest()


def _require_living_key(journal: Journal, now: datetime) -> None:
    """Under a key that Stripe forgot the call would be made a second time."""
    if journal.in_flight and _is_forgotten(journal, now):
        raise Permanent(f"{journal.in_flight.name} was begun so long ago that Stripe cannot tell how it went")


def _is_forgotten(journal: Journal, now: datetime) -> bool:
    entry = journal.in_flight
    return entry is not None and entry.begun_at is not None and now - entry.begun_at > KEYS_LIVE


def _is_old(job: StepJob) -> bool:
    created_at = job.step.created_at
    return created_at is not None and job.situation.real_now - created_at > GIVE_UP_AFTER
