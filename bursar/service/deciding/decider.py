"""Deciding batches whatever happens while they are saved: short troubles are tried again, a bad item is found and set
aside.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import asyncpg
import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from bursar.billing.errors import BursarError, OwnServerAway, Retryable
from bursar.db.accounts import held_by_others
from bursar.db.batches import MAX_ITEMS
from bursar.db.clock import Clock
from bursar.db.connections import Connection, Pool
from bursar.db.decide import Also, Limits, decide_batch, record_unsaved
from bursar.db.fold import Failure
from bursar.db.items import Item, Outcome, OutcomeState

log = structlog.get_logger()

# Another batch was in the way: the same one may pass now.
PASSING = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.QueryCanceledError)
CONTENTION = (*PASSING, asyncpg.LockNotAvailableError)
# The database said no to what was saved (a unique key of another user, a constraint, a limit): an item's fault.
AT_FAULT = (
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.DataError,
    asyncpg.ProgramLimitExceededError,
    asyncpg.RaiseError,
    BursarError,
)
# Whatever else Postgres, its client or the network raises: nothing was decided.
UNAVAILABLE = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
PASSING_ATTEMPTS = 4
ACQUIRE_TIMEOUT_SECONDS = 10.0

OnCommit = Callable[[Sequence[Outcome]], None]
Result = TypeVar("Result")


class DatabaseUnavailable(OwnServerAway):
    """Postgres cannot be reached; nothing was decided."""


class AccountBusy(Retryable):
    """Another batch held the account's lock for longer than the time-out."""


class Decider:
    """Takes items to their outcomes. Shared by lanes, the API, sweeps and the step runner of a process."""

    def __init__(self, pool: Pool, clock: Clock, limits: Limits) -> None:
        self.pool = pool
        self.clock = clock
        self.limits = limits
        self._listeners: list[OnCommit] = []

    def on_commit(self, listener: OnCommit) -> None:
        """Have `listener` called with the outcomes of every committed batch."""
        self._listeners.append(listener)

    async def decide(self, items: Sequence[Item]) -> list[Outcome]:
        """Decide the items in order, in batches of at most 256; DatabaseUnavailable when nothing can be saved."""
        outcomes: list[Outcome] = []
        for start in range(0, len(items), MAX_ITEMS):
            outcomes += await self._decide_or_bisect(items[start : start + MAX_ITEMS])
        return outcomes

    async def decide_together(self, items: Sequence[Item], also: Also) -> list[Outcome]:
        """Decide at most 256 items in one transaction, in which `also` writes more; what forbids saving is raised."""
        outcomes = await self.with_connection(lambda connection: self._decide(connection, items, also))
        self._tell(outcomes)
        return outcomes

    async def predict(self, items: Sequence[Item], also: Also) -> list[Outcome]:
        """What `decide_together` would do: done, seen by `also`, and undone."""
        return await self.with_connection(lambda connection: self._decide(connection, items, also, dry_run=True))

    async def _decide_or_bisect(self, items: Sequence[Item]) -> list[Outcome]:
        try:
            outcomes = await self.with_connection(lambda connection: self._decide(connection, items))
        except (*AT_FAULT, *CONTENTION) as error:
            if isinstance(error, DatabaseUnavailable):
                raise
            if len(items) == 1:
                return [await self._set_aside(items[0], error)]
            if isinstance(error, asyncpg.LockNotAvailableError):
                return await self._around_the_busy(items, error)
            return await self._bisect(items)
        self._tell(outcomes)
        return outcomes

    async def _bisect(self, items: Sequence[Item]) -> list[Outcome]:
        middle = len(items) // 2
        return await self._decide_or_bisect(items[:middle]) + await self._decide_or_bisect(items[middle:])

    async def _around_the_busy(self, items: Sequence[Item], error: Exception) -> list[Outcome]:
        """Set the items of locked accounts aside, so that they delay the others by one lock time-out only (MS-5)."""
        keys = {item.key for item in items}
        busy = await self.with_connection(lambda connection: held_by_others(connection, keys))
        if not busy:
            return await self._bisect(items)  # the lock went meanwhile, or is not an account's
        others = [item for item in items if item.key not in busy]
        decided = await self._decide_or_bisect(others) if others else []
        ended = {id(outcome.item): outcome for outcome in decided}
        return [ended.get(id(item)) or await self._set_aside(item, error) for item in items]

    def _tell(self, outcomes: Sequence[Outcome]) -> None:
        for listener in self._listeners:
            listener(outcomes)

    async def _decide(
        self, connection: Connection, items: Sequence[Item], also: Also | None = None, *, dry_run: bool = False
    ) -> list[Outcome]:
        """At most four attempts where another batch was in the way; a lock was waited for long enough by then."""
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(PASSING),
            stop=stop_after_attempt(PASSING_ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.02, max=0.5),
            reraise=True,
        ):
            with attempt:
                situation = await self.clock.situation(connection)
                return await decide_batch(connection, items, situation, self.limits, also, dry_run=dry_run)
        raise AssertionError("unreachable: the last attempt raises")

    async def _set_aside(self, item: Item, error: Exception) -> Outcome:
        """The one item that cannot be saved: written down for a retry where it is a message, else the caller's to
        report.
        """
        log.warning("item not saved", message_id=item.id, account=item.key, error=type(error).__name__)
        failure = Failure(item, AccountBusy("the account is busy") if isinstance(error, CONTENTION) else error)
        if not await self.with_connection(lambda connection: self._record(connection, failure)):
            return Outcome(item, OutcomeState.DUPLICATE)
        return Outcome(item, OutcomeState.FAILED, error=failure.error)

    async def _record(self, connection: Connection, failure: Failure) -> bool:
        situation = await self.clock.situation(connection)
        async with connection.transaction():
            return await record_unsaved(connection, failure, situation)

    async def with_connection(self, work: Callable[[Connection], Awaitable[Result]]) -> Result:
        """Do `work` with a connection of the pool; DatabaseUnavailable when Postgres does not answer."""
        try:
            async with self.pool.acquire(timeout=ACQUIRE_TIMEOUT_SECONDS) as connection:
                return await work(connection)
        except (*AT_FAULT, *CONTENTION):
            raise
        except UNAVAILABLE as error:
            raise DatabaseUnavailable(f"the database does not answer ({type(error).__name__})") from error
