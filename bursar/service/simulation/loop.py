"""An event loop that does not sleep: where only a timer is waited for, its time comes at once."""

import asyncio
import selectors
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from typing import Any

# The tasks of the process that is at work, those that it begins included.
TASKS: ContextVar[set[asyncio.Task[Any]] | None] = ContextVar("tasks", default=None)


class SkippingLoop(asyncio.SelectorEventLoop):
    """Back-off and time-outs of the code under test cost nothing; answers of the database are really waited for."""

    def __init__(self) -> None:
        self.skipped_seconds = 0.0
        self.answers_awaited = 0
        super().__init__(_SkippingSelector(self))
        self.set_exception_handler(lambda *_: None)  # tasks of processes that died: nobody waits for them

    def create_task(self, coro: Any, *, name: Any = None, context: Context | None = None) -> asyncio.Task[Any]:  # noqa: ANN401 - as the base class
        """A task belongs to the process in which it is begun."""
        task: asyncio.Task[Any] = super().create_task(coro, name=name, context=context)
        tasks = TASKS.get()
        if tasks is not None:
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        return task

    def time(self) -> float:
        """The machine's monotonic clock, and what was skipped."""
        return super().time() + self.skipped_seconds


class _SkippingSelector(selectors.DefaultSelector):
    def __init__(self, loop: SkippingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:  # noqa: ANN401 - as the base class has it
        if timeout is None or timeout <= 0 or self._loop.answers_awaited:
            return super().select(timeout)
        self._loop.skipped_seconds += timeout
        return super().select(0)


@contextmanager
def awaiting_answer() -> Iterator[None]:
    """While the database is asked: time does not skip."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, SkippingLoop):
        yield
        return
    loop.answers_awaited += 1
    try:
        yield
    finally:
        loop.answers_awaited -= 1
