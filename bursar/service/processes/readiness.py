"""Whether a process can do its work now: the database, the broker, and every part of it that must run."""

import asyncio
from collections.abc import Callable, Sequence

from bursar.db.connections import Pool
from bursar.service.deciding.decider import UNAVAILABLE
from bursar.service.processes.supervision import TaskState
from bursar.service.web.health import Check

ANSWER_SECONDS = 2.0


class ProcessReadiness:
    """Asks everything each time; each answer is bounded to two seconds."""

    def __init__(self, pool: Pool, states: Sequence[TaskState], others: Sequence[Callable[[], Check]] = ()) -> None:
        self._pool = pool
        self._states = states
        self._others = others

    async def __call__(self) -> list[Check]:
        """The checks, for `/readyz`."""
        parts = [_of_part(state) for state in self._states]
        return [await self._database(), *(check() for check in self._others), *parts]

    async def _database(self) -> Check:
        try:
            async with asyncio.timeout(ANSWER_SECONDS), self._pool.acquire() as connection:
                await connection.fetchval("SELECT 1")
        except UNAVAILABLE as error:
            return Check("database", ok=False, detail=type(error).__name__)
        return Check("database", ok=True)


def _of_part(state: TaskState) -> Check:
    if state.is_up:
        return Check(state.name, ok=True)
    return Check(
        state.name, ok=False, detail=f"down after {state.crashes_in_a_row} crashes: {state.error or 'stopped'}"
    )
