"""The real Postgres, behind a pool whose process can die at a commit, lose its connection, or fail to serialize."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self, TypeVar

import asyncpg

from bursar.db.connections import Connection, open_connection
from bursar.service.simulation.dying import Mortality, Point, ProcessDied
from bursar.service.simulation.loop import awaiting_answer

MAX_CONNECTIONS = 8
GONE_POLL_SECONDS = 0.001
GONE_LOOKS = 10_000  # it may wait for a lock, until that times out
SETTINGS = {
    "synchronous_commit": "off",  # crashes are simulated above the server
    "plan_cache_mode": "force_generic_plan",  # tables are small: planning anew would cost more than running
    "jit": "off",
}
MADE_UP = ("simulated",)  # what troubles of ours say

Answer = TypeVar("Answer")


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

    database_url: str
    free: list[Connection] = field(default_factory=list)
    taken: int = 0
    commits: int = 0

    async def take(self) -> Connection:
        """A free one, or a further one: at most 8."""
        assert self.taken < MAX_CONNECTIONS, "whoever takes a connection gives it back"
        self.taken += 1
        if self.free:
            return self.free.pop()
        with awaiting_answer():
            return await open_connection(self.database_url, name="bursar simulate", **SETTINGS)

    def give_back(self, connection: Connection) -> None:
        """For the next."""
        self.taken -= 1
        if not connection.is_closed():
            self.free.append(connection)

    async def asked(self, ask: Callable[[Connection], Awaitable[Answer]]) -> Answer:
        """What the database says, without anybody's process."""
        connection = await self.take()
        try:
            with awaiting_answer():
                return await ask(connection)
        finally:
            self.give_back(connection)

    async def end(self, connection: Connection) -> None:
        """It died with its process. Returns when Postgres has undone what was open, so that chance decides nothing."""
        self.taken -= 1
        pid = connection.get_server_pid()
        connection.terminate()
        watching = await self.take()
        with awaiting_answer():
            for _ in range(GONE_LOOKS):
                if not await watching.fetchval("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)", pid):
                    break
                await asyncio.sleep(GONE_POLL_SECONDS)
        self.give_back(watching)

    def close(self) -> None:
        """End them all."""
        while self.free:
            self.free.pop().terminate()


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
        except asyncio.CancelledError:
            await self.connections.end(connection)
            raise
        except BaseException:
            await self._given_back(connection)
            raise
        await self._given_back(connection)

    async def _given_back(self, connection: Connection) -> None:
        if connection.is_in_transaction():
            await self.connections.end(connection)
        else:
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
        if self._pool.mortality.is_dead:
            raise ProcessDied  # as it passes through `finally`
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
        if self._pool.mortality.is_dead:
            raise ProcessDied
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
