"""Parked messages decided again by an operator: foretold by a dry run of the same code, then done and signed (MS-7)."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from itertools import groupby
from typing import assert_never

from bursar.billing.catalogue import Catalogue
from bursar.billing.errors import describe
from bursar.billing.values import Value, replace
from bursar.db import parked
from bursar.db.connections import Connection, rolled_back
from bursar.db.items import Dedupe, Item, Outcome, OutcomeState
from bursar.db.parked import ParkedMessage
from bursar.db.parked_actions import Signature, open_messages, record_replay
from bursar.db.written import WrittenChange, WrittenStep, changes_because_of, steps_because_of
from bursar.handlers.messages import ReceivedMessage, item_of
from bursar.service.broker.forms import TICK_TYPE
from bursar.service.broker.reading import read, received_again
from bursar.service.deciding.decider import CONTENTION, AccountBusy, DatabaseUnavailable, Decider
from bursar.service.ticks.paging import Sweeping

TOGETHER = 64  # messages of one account whose joint effect is foretold; bounds how long its lock is held for that


class ReplayOutcome(StrEnum):
    """How a replay ends."""

    APPLIED = "applied"
    FAILED = "failed"  # it stays as it was, with the new error
    SETTLED = "settled"  # replayed or discarded meanwhile: nothing was done


class Replayed(Value):
    """What became of a message."""

    outcome: ReplayOutcome
    error: str | None = None


class Prediction(Value):
    """What a replay would do to the rows as they are now; `sweep` is the one that a tick would begin."""

    outcome: ReplayOutcome
    error: str | None = None
    changes: Sequence[WrittenChange] = ()
    steps: Sequence[WrittenStep] = ()
    sweep: str | None = None


Written = tuple[dict[str, list[WrittenChange]], dict[str, list[WrittenStep]]]


class Replaying:
    """Foretells and does, one message after the other. Raises DatabaseUnavailable and AccountBusy: nothing was done."""

    def __init__(self, decider: Decider, catalogue: Catalogue) -> None:
        self._decider = decider
        self._catalogue = catalogue
        self._sweeping = Sweeping(decider, catalogue)

    async def predict(
        self, parked_ids: Sequence[int], on_progress: Callable[[int], None] = lambda _: None
    ) -> dict[int, Prediction]:
        """What replays of at most 1,000 messages would do, by their ids; those that are not open are left out.

        Messages of one account are foretold one after the other, as they would be done, up to 64 of them.
        """
        messages = await self._decider.with_connection(lambda connection: open_messages(connection, parked_ids))
        ticks = [message for message in messages.values() if message.type == TICK_TYPE]
        others = [received_again(message) for message in messages.values() if message.type != TICK_TYPE]
        result = await read(others, self._decode, self._decider)
        foretold = {one.message_id: _failing(one.error) for one in result.failed}
        on_progress(len(foretold))
        for items in _of_accounts(result.items):
            foretold |= await self._foretell(items)
            on_progress(len(items))
        for tick in ticks:
            foretold[tick.message_id] = await self._foretell_tick(tick)
            on_progress(1)
        return {parked_id: foretold[message.message_id] for parked_id, message in messages.items()}

    async def replay(self, parked_id: int, signature: Signature) -> Replayed:
        """Decide one message again, under its id; the signature is written in the transaction of the effect."""
        messages = await self._decider.with_connection(lambda connection: open_messages(connection, [parked_id]))
        message = messages.get(parked_id)
        if message is None:
            return Replayed(ReplayOutcome.SETTLED)
        replay = self._replay_tick if message.type == TICK_TYPE else self._decide
        try:
            return await replay(parked_id, message, signature)
        except DatabaseUnavailable:
            raise
        except CONTENTION:
            raise AccountBusy("the account is busy") from None
        except Exception as error:  # noqa: BLE001 - written down with the message
            return await self._note_failure(parked_id, message, signature, error)

    def _decode(self, message: ReceivedMessage, account_key: str) -> Item:
        return replace(item_of(message, account_key, self._catalogue), dedupe=Dedupe.PARKED)

    async def _foretell(self, items: Sequence[Item]) -> dict[str, Prediction]:
        """Items of one account; where they cannot be saved together, each on its own."""
        written: Written = {}, {}

        async def look(connection: Connection, _: Sequence[Outcome]) -> None:
            keys, ids = [items[0].key], [item.id for item in items]
            written[0].update(await changes_because_of(connection, keys, ids))
            written[1].update(await steps_because_of(connection, keys, ids))

        try:
            outcomes = await self._decider.predict(items, look)
        except DatabaseUnavailable:
            raise
        except CONTENTION:
            raise AccountBusy("the account is busy") from None
        except Exception as error:  # noqa: BLE001 - this is what a replay would end with
            if len(items) == 1:
                return {items[0].id: _failing(error)}
            alone = [await self._foretell([item]) for item in items]
            return {message_id: prediction for one in alone for message_id, prediction in one.items()}
        return {outcome.item.id: _prediction(outcome, written) for outcome in outcomes}

    async def _foretell_tick(self, message: ParkedMessage) -> Prediction:
        async def begin(connection: Connection) -> str:
            async with rolled_back(connection):
                tick = await self._sweeping.begin_on(connection, received_again(message))
            return f"{tick.sweep} due {tick.due_at.isoformat()} on partition {tick.partition}, unless it ran"

        try:
            return Prediction(ReplayOutcome.APPLIED, sweep=await self._decider.with_connection(begin))
        except DatabaseUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - this is what a replay would end with
            return _failing(error)

    async def _decide(self, parked_id: int, message: ParkedMessage, signature: Signature) -> Replayed:
        result = await read([received_again(message)], self._decode, self._decider)
        for failed in result.failed:
            raise failed.error
        items = [replace(item, attempts=message.attempts) for item in result.items]

        async def sign(connection: Connection, outcomes: Sequence[Outcome]) -> None:
            if outcomes[0].state is not OutcomeState.DUPLICATE:
                await self._record(connection, parked_id, signature, outcomes[0].error)

        [outcome] = await self._decider.decide_together(items, sign)
        return Replayed(_ending(outcome), describe(outcome.error) if outcome.error else None)

    async def _replay_tick(self, parked_id: int, message: ParkedMessage, signature: Signature) -> Replayed:
        async def begin(connection: Connection) -> Replayed:
            async with connection.transaction():
                if not await parked.lock_open(connection, [message.message_id]):
                    return Replayed(ReplayOutcome.SETTLED)
                await self._sweeping.begin_on(connection, received_again(message))
                await parked.mark_replayed(connection, [message.message_id])
                await self._record(connection, parked_id, signature, None)
            return Replayed(ReplayOutcome.APPLIED)

        return await self._decider.with_connection(begin)

    async def _note_failure(
        self, parked_id: int, message: ParkedMessage, signature: Signature, error: Exception
    ) -> Replayed:
        async def note(connection: Connection) -> Replayed:
            async with connection.transaction():
                if not await parked.lock_open(connection, [message.message_id]):
                    return Replayed(ReplayOutcome.SETTLED)
                real_now = await self._record(connection, parked_id, signature, error)
                await parked.record_failed_retry(connection, message.message_id, message.attempts, error, real_now)
            return Replayed(ReplayOutcome.FAILED, describe(error))

        return await self._decider.with_connection(note)

    async def _record(
        self, connection: Connection, parked_id: int, signature: Signature, error: Exception | None
    ) -> datetime:
        real_now = (await self._decider.clock.situation(connection)).real_now
        await record_replay(connection, parked_id, signature, error, real_now)
        return real_now


def _of_accounts(items: Sequence[Item]) -> Iterator[list[Item]]:
    """The items of each account, in their order, at most 64 at once."""
    for _, group in groupby(sorted(items, key=_key), _key):
        of_account = list(group)
        for start in range(0, len(of_account), TOGETHER):
            yield of_account[start : start + TOGETHER]


def _key(item: Item) -> str:
    return item.key


def _ending(outcome: Outcome) -> ReplayOutcome:
    match outcome.state:
        case OutcomeState.APPLIED:
            return ReplayOutcome.APPLIED
        case OutcomeState.FAILED:
            return ReplayOutcome.FAILED
        case OutcomeState.DUPLICATE:
            return ReplayOutcome.SETTLED
        case _:
            assert_never(outcome.state)


def _prediction(outcome: Outcome, written: Written) -> Prediction:
    changes, steps = written
    error = describe(outcome.error) if outcome.error else None
    return Prediction(_ending(outcome), error, changes.get(outcome.item.id, ()), steps.get(outcome.item.id, ()))


def _failing(error: Exception) -> Prediction:
    return Prediction(ReplayOutcome.FAILED, describe(error))
