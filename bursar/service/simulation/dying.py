"""How a process dies in the simulation: at a chosen point, taking everything that it only had in memory."""

import asyncio
from collections.abc import Coroutine
from enum import StrEnum
from typing import Any, TypeVar

from bursar.service.simulation.loop import TASKS, awaiting_answer

Result = TypeVar("Result")


class Point(StrEnum):
    """Where a process may die: on either side of everything that outlives it."""

    BEFORE_COMMIT = "before_commit"
    AFTER_COMMIT = "after_commit"
    BEFORE_PUBLISH = "before_publish"
    AFTER_PUBLISH = "after_publish"
    BEFORE_CALL = "before_call"
    AFTER_CALL = "after_call"
    BEFORE_ACK = "before_ack"
    AFTER_ACK = "after_ack"


class ProcessDied(BaseException):
    """Nobody catches it, as nobody catches a `kill -9`."""


class Mortality:
    """Armed with a point, it kills its process when that point is passed."""

    def __init__(self) -> None:
        self._armed: Point | None = None
        self._passes_left = 0
        self._death = asyncio.Event()
        self.died_at: Point | None = None

    @property
    def is_dead(self) -> bool:
        """Whether the process has ended."""
        return self._death.is_set()

    @property
    def watches_commits(self) -> bool:
        """Whether it may die at a commit."""
        return self.is_dead or self._armed in (Point.BEFORE_COMMIT, Point.AFTER_COMMIT)

    def arm(self, point: Point, passes: int) -> None:
        """Die at the point, after so many passes of it that are survived."""
        self._armed, self._passes_left = point, passes

    def disarm(self) -> None:
        """Live on."""
        self._armed = None

    def pass_point(self, point: Point) -> None:
        """Raises `ProcessDied` if this is the end; a dead process passes no further point."""
        if self.is_dead:
            raise ProcessDied
        if self._armed is not point:
            return
        if self._passes_left:
            self._passes_left -= 1
            return
        self.died_at = point
        self._death.set()
        raise ProcessDied

    async def live(self, work: Coroutine[Any, Any, Result]) -> Result | None:
        """Do the work; None when the process died in it, wherever: in this task or one that it waits for."""
        tasks = set[asyncio.Task[Any]]()
        outer = TASKS.set(tasks)
        task = asyncio.create_task(work)
        TASKS.reset(outer)
        death = asyncio.create_task(self._death.wait())
        await asyncio.wait({task, death}, return_when=asyncio.FIRST_COMPLETED)
        death.cancel()
        if not self.is_dead:
            return task.result()
        await _ended({task, *tasks})
        return None


async def _ended(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancel every task of the dead process, and let its transactions be undone."""
    with awaiting_answer():
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
