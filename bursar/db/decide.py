"""`decide_batch`: lock, dedupe, load, fold, save. One transaction for many accounts; the heart of the service."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from bursar.billing.account import Account
from bursar.billing.credits.ledger import Credits
from bursar.billing.errors import AskAgain, Retryable
from bursar.billing.steps import StepState
from bursar.billing.values import Value, replace
from bursar.db import accounts, change_log, destruction_days, erased, idempotency, inbox, parked, steps
from bursar.db.batches import ITEMS_A_TURN, MAX_ITEMS
from bursar.db.connections import Connection, rolled_back
from bursar.db.fold import Failure, Folded, fold
from bursar.db.items import Dedupe, Item, Outcome, OutcomeState, Situation, StepAnswer
from bursar.db.parts import load_accounts, save_accounts
from bursar.db.saving import SaveContext

MAX_MAKINGS = 4  # users may be deleted, or come back, while their accounts are being made

Also = Callable[[Connection, Sequence[Outcome]], Awaitable[None]]


class Limits(Value):
    """What the deployment and the catalogue fix."""

    partitions: int
    destructions_per_day: int


async def decide_batch(
    connection: Connection,
    items: Sequence[Item],
    situation: Situation,
    limits: Limits,
    also: Also | None = None,
    *,
    dry_run: bool = False,
) -> list[Outcome]:
    """Decide at most 256 items in one transaction; returns their outcomes, in order.

    `also` writes more in the same transaction, such as how far a sweep came; what it raises undoes the batch.
    A decision that raises fails its own item only. An error while saving leaves nothing of the batch and is raised:
    the caller bisects (`service/deciding/decider.py`). A dry run does all of it, `also` included, and undoes it.
    """
    if dry_run:
        async with rolled_back(connection):
            return await decide_batch(connection, items, situation, limits, also)
    if len(items) > MAX_ITEMS:
        message = f"a batch has at most {MAX_ITEMS} items"
        raise ValueError(message)
    keys = sorted({item.key for item in items})
    for _ in range(MAX_MAKINGS):
        async with connection.transaction():
            missing = set(keys) - await accounts.lock_accounts(connection, keys)
            noting = await _noting_erased(connection, items, missing, situation)
            if missing <= noting.erased:
                return await _decide_locked(connection, items, noting, limits, also)
        # A deleted user's account is not made again; that of one who came back meanwhile is.
        await accounts.make_accounts(connection, missing - noting.erased, limits.partitions)
    raise Retryable("an account was deleted as often as it was made")


async def _noting_erased(
    connection: Connection, items: Sequence[Item], missing: set[str], situation: Situation
) -> Situation:
    """The situation with those names that are of deleted users: of accounts that are gone, or borne by messages."""
    names = missing.union(*(item.names for item in items))
    return replace(situation, erased=await erased.among(connection, names)) if names else situation


async def _decide_locked(
    connection: Connection, items: Sequence[Item], situation: Situation, limits: Limits, also: Also | None
) -> list[Outcome]:
    fresh, stale_answers = await _fresh(connection, items, situation)
    folded = await _fold_and_save(connection, fresh, situation, limits) if fresh else Folded({})
    if stale_answers:
        await steps.settle(connection, [_again(answer) for answer in stale_answers], situation.real_now)
    outcomes = _outcomes(items, folded)
    if also:
        await also(connection, outcomes)
    return outcomes


async def _fresh(
    connection: Connection, items: Sequence[Item], situation: Situation
) -> tuple[list[Item], list[StepAnswer]]:
    """The items not handled before, each once; and the answers whose step was asked again meanwhile."""
    ids = {how: [item.id for item in items if item.dedupe is how] for how in Dedupe}
    answers = [item.answer for item in items if item.answer]
    new = await inbox.record(connection, ids[Dedupe.INBOX], situation.real_now) if ids[Dedupe.INBOX] else set()
    waiting = await parked.lock_open(connection, ids[Dedupe.PARKED]) if ids[Dedupe.PARKED] else set()
    leased = await steps.lock_answered(connection, answers) if answers else {}
    tests: dict[Dedupe, Callable[[Item], bool]] = {
        Dedupe.INBOX: lambda item: item.id in new,
        Dedupe.PARKED: lambda item: item.id in waiting,
        Dedupe.STEP: lambda item: item.answer is not None and leased.get(item.answer.lease, False),
        Dedupe.STATE: lambda _: True,
    }
    once = {(item.dedupe, item.id): item for item in reversed(items)}
    fresh = [item for item in items if once[item.dedupe, item.id] is item and tests[item.dedupe](item)]
    return fresh, [answer for answer in answers if leased.get(answer.lease) is False]


async def _fold_and_save(connection: Connection, fresh: list[Item], situation: Situation, limits: Limits) -> Folded:
    parts = frozenset().union(*(item.parts for item in fresh))
    before = await load_accounts(connection, {item.key for item in fresh}, parts, _ledgers(fresh))
    folded = await _folded(before, fresh, situation)
    if folded.slots_wanted:
        granted = await destruction_days.claim_slots(
            connection, situation.now, folded.slots_wanted, limits.destructions_per_day
        )
        folded = Folded(dict(before))  # in one go: others wait for the day's row
        fold(folded, fresh, situation, granted)
    context = SaveContext(situation.now, situation.real_now, limits.partitions)
    changed = folded.changed(before)
    if changed:
        await save_accounts(connection, before, changed, context)
    if folded.changes:
        await change_log.append(connection, folded.changes, situation.now)
    if asked := folded.steps:
        wanted = await _under_tombstones(connection, asked, situation.erased)
        await steps.ask(connection, wanted, situation.real_now)
    await _end(connection, folded, situation)
    return folded


def _ledgers(items: Sequence[Item]) -> dict[str, frozenset[str] | None]:
    """The accounts whose ledger is asked about, and about which payments alone; None where it may be anything.

    An invoice that does without a ledger settles where another item brought one: its payments are asked about, too.
    """
    asked = dict[str, frozenset[str] | None]()
    needing = {item.key for item in items if Credits in item.parts}
    for item in items:
        if item.key in needing and (Credits in item.parts or item.payments is not None):
            so_far = asked.get(item.key, frozenset())
            asked[item.key] = None if so_far is None or item.payments is None else so_far | item.payments
    return asked


async def _folded(before: Mapping[str, Account], items: Sequence[Item], situation: Situation) -> Folded:
    """The items' decisions. Between turns the other batches have theirs: the database would wait for them else."""
    folded = Folded(dict(before))
    for start in range(0, len(items), ITEMS_A_TURN):
        if start:
            await asyncio.sleep(0)
        fold(folded, items[start : start + ITEMS_A_TURN], situation)
    return folded


async def _under_tombstones(
    connection: Connection, wanted: list[steps.Wanted], gone: frozenset[str]
) -> list[steps.Wanted]:
    """What follows for deleted users, without their names (KC-121)."""
    keys = {one.account_key for one in wanted} & gone
    if not keys:
        return wanted
    tombstones = await erased.tombstones(connection, keys)
    return [replace(one, account_key=tombstones.get(one.account_key, one.account_key)) for one in wanted]


async def _end(connection: Connection, folded: Folded, situation: Situation) -> None:
    """Settle what brought the items: steps answered, messages replayed, failures written down, results kept."""
    answered = [item.answer for item, _ in folded.decisions if item.answer]
    answered += [
        _again(failure.item.answer) for failure in folded.failures if _asks_again(failure) and failure.item.answer
    ]
    replayed = [item.id for item, _ in folded.decisions if item.dedupe is Dedupe.PARKED]
    if answered:
        await steps.settle(connection, answered, situation.real_now)
    if replayed:
        await parked.mark_replayed(connection, replayed)
    if results := _results(folded):
        await idempotency.keep_results(connection, results)
    await record_failures(connection, folded.failures, situation)


def _results(folded: Folded) -> dict[str, Mapping[str, Any]]:
    """What commands answer, by their ids, also where they are decided anew after a refusal; nobody waits for others."""
    return {
        item.id: decision.result
        for item, decision in folded.decisions
        if decision.result is not None and item.actor == "api"
    }


async def record_failures(connection: Connection, failures: Sequence[Failure], situation: Situation) -> None:
    """Write down what failed so that it is not lost: messages for a retry or parked (MS-6)."""
    first = [
        parked.FailedMessage(failure.item.id, failure.item.key, failure.item.copy, failure.error)
        for failure in failures
        if failure.item.copy and failure.item.dedupe is Dedupe.INBOX
    ]
    if first:
        await parked.record_first_failures(connection, first, situation.real_now)
    for failure in failures:
        if failure.item.dedupe is Dedupe.PARKED:
            await parked.record_failed_retry(
                connection, failure.item.id, failure.item.attempts, failure.error, situation.real_now
            )


async def record_unsaved(connection: Connection, failure: Failure, situation: Situation) -> bool:
    """Write down an item of which nothing was saved; False for a message that another handled meanwhile."""
    item = failure.item
    if item.dedupe is Dedupe.INBOX and item.copy:
        message = parked.FailedMessage(item.id, item.key, item.copy, failure.error)
        return bool(await parked.record_unhandled(connection, [message], situation.real_now))
    await record_failures(connection, [failure], situation)
    return True


def _asks_again(failure: Failure) -> bool:
    return isinstance(failure.error, AskAgain)


def _again(answer: StepAnswer) -> StepAnswer:
    return replace(answer, state=StepState.DUE, error=None, result=None)


def _outcomes(items: Sequence[Item], folded: Folded) -> list[Outcome]:
    """An item that was neither decided nor failed was a duplicate."""
    decided = {id(item): Outcome(item, OutcomeState.APPLIED, decision) for item, decision in folded.decisions}
    failed = {
        id(failure.item): Outcome(failure.item, OutcomeState.FAILED, error=failure.error) for failure in folded.failures
    }
    ended = decided | failed
    return [ended.get(id(item)) or Outcome(item, OutcomeState.DUPLICATE) for item in items]
