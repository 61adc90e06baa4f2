"""The real Postgres, behind a pool whose process can die at a commit, lose its connection, or fail to serialize."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

import asyncpg

from bursar.db.connections import Connection, Pool
from bursar.service.simulation.dying import Mortality, Point
from bursar.service.simulation.loop import awaiting_answer

MAX_CONNECTIONS = 8
MADE_UP = ("simulated",)  # what troubles of ours say


class Trouble(StrEnum):
    """What a database may answer once."""

    CONNECTION_LOST = "connection_lost"  # before the commit took effect
    COMMIT_UNKNOWN = "commit_unknown"  # right after it did
    SERIALIZATION_FAILURE = "serialization_failure"
    DEADLOCK = "deadlock"


_ERRORS: dict[Trouble, type[Exception]] = {
    Trouble.CONNECTION_LOST: asyncpg.ConnectionDoesNotExistError,
    Trouble.COMMIT_UNKNOWN: asyncpg.ConnectionDoesNotExistError,
    Trouble.SERIALIZATION_FAILURE: asyncpg.SerializationError,
    Trouble.DEADLOCK: asyncpg.DeadlockDetectedError,
}


@dataclass(slots=True)
class Connections:
    """Real connections, kept open: what a pool does between two uses would take longer than the work itself."""

    pool: Pool
    free: list[Connection] = field(default_factory=list)
    commits: int = 0

    async def take(self) -> Connection:
        """A free one, or a further one."""
        if self.free:
            return self.free.pop()
        with awaiting_answer():
            return await self.pool.acquire()

    def give_back(self, connection: Connection) -> None:
        """For the next; one that died in a transaction ends, and Postgres undoes what was open."""
        if connection.is_in_transaction():
            connection.terminate()
        elif not connection.is_closed():
            self.free.append(connection)


@dataclass(slots=True)
class SimulatedPool:
    """Stands where asyncpg's pool stands: one for each process. `gate` is passed before each commit."""

    connections: Connections
    mortality: Mortality
    trouble: Trouble | None = None
    gate: Callable[[], Awaitable[None]] | None = None

    @asynccontextmanager
    async def acquire(self, *, timeout: float | None = None) -> AsyncIterator[Any]:  # noqa: ARG002, ASYNC109 - asyncpg's
        """A connection that passes the points of its process."""
        connection = await self.connections.take()
        try:
            yield SimulatedConnection(connection, self)
        finally:
            self.connections.give_back(connection)

    @property
    def is_calm(self) -> bool:
        """Whether a commit is nothing to speak of."""
        return self.trouble is None and self.gate is None and not self.mortality.watches_commits

    async def commit_begins(self) -> None:
        """Right before a commit takes effect."""
        gate, self.gate = self.gate, None
        if gate:
            await gate()
        if self.trouble and self.trouble is not Trouble.COMMIT_UNKNOWN:
            self._meet_trouble()
        self.mortality.pass_point(Point.BEFORE_COMMIT)

    def commit_ended(self) -> None:
        """Right after it took effect."""
        self.connections.commits += 1
        self.mortality.pass_point(Point.AFTER_COMMIT)
        if self.trouble:
            self._meet_trouble()

    def _meet_trouble(self) -> None:
        trouble, self.trouble = self.trouble, None
        assert trouble, "the caller looked"
        raise _ERRORS[trouble](*MADE_UP)


class SimulatedConnection:
    """A connection: outside a transaction each statement is a commit of its own."""

    def __init__(self, connection: Any, pool: SimulatedPool) -> None:  # noqa: ANN401 - asyncpg has no types
        self._connection = connection
        self._pool = pool

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - likewise
        return getattr(self._connection, name)

    def transaction(self, **options: Any) -> "SimulatedTransaction":  # noqa: ANN401 - asyncpg's options
        return SimulatedTransaction(self._connection, self._pool, options)

    async def execute(self, query: str, *arguments: Any) -> Any:  # noqa: ANN401
        return await self._statement(self._connection.execute, query, *arguments)

    async def fetch(self, query: str, *arguments: Any) -> Any:  # noqa: ANN401
        return await self._statement(self._connection.fetch, query, *arguments)

    async def fetchrow(self, query: str, *arguments: Any) -> Any:  # noqa: ANN401
        return await self._statement(self._connection.fetchrow, query, *arguments)

    async def fetchval(self, query: str, *arguments: Any) -> Any:  # noqa: ANN401
        return await self._statement(self._connection.fetchval, query, *arguments)

    async def _statement(self, run: Any, query: str, *arguments: Any) -> Any:  # noqa: ANN401
        if self._connection.is_in_transaction() or query.lstrip()[:6].upper() == "SELECT":
            with awaiting_answer():
                return await run(query, *arguments)
        if self._pool.is_calm:
            with awaiting_answer():
                answer = await run(query, *arguments)
            self._pool.commit_ended()
            return answer
        async with self.transaction():
            with awaiting_answer():
                return await run(query, *arguments)


class SimulatedTransaction:
    """The outermost transaction commits; inner ones are savepoints."""

    def __init__(self, connection: Any, pool: SimulatedPool, options: dict[str, Any]) -> None:  # noqa: ANN401
        self._transaction = connection.transaction(**options)
        self._is_outermost = not connection.is_in_transaction()
        self._pool = pool

    async def start(self) -> None:
        with awaiting_answer():
            await self._transaction.start()

    async def commit(self) -> None:
        try:
            if self._is_outermost:
                await self._pool.commit_begins()
        except BaseException:
            await self.rollback()
            raise
        with awaiting_answer():
            await self._transaction.commit()
        if self._is_outermost:
            self._pool.commit_ended()

    async def rollback(self) -> None:
        with awaiting_answer():
            await self._transaction.rollback()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await (self.rollback() if kind else self.commit())
