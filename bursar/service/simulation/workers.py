"""Those who play: one in this process, or several processes, each on a database of its own."""

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

from bursar.billing.catalogue import Prices
from bursar.service.observability.logs import configure_logging
from bursar.service.observability.metrics import Metrics
from bursar.service.settings import DEFAULT_CATALOGUE, load_catalogue
from bursar.service.simulation.database import Connections
from bursar.service.simulation.loop import SkippingLoop
from bursar.service.simulation.running import Outcome, Plan, Player
from bursar.service.simulation.shrinking import shrunk
from bursar.service.stripe_stand_in.world import COMMIT, STANDARD

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

PRICES = Prices(standard=(STANDARD.id,), commit=(COMMIT.id,))


class Worker:
    """A player and its event loop."""

    def __init__(self, database_url: str) -> None:
        self._connections = Connections(database_url)
        self._player = Player(self._connections, load_catalogue(DEFAULT_CATALOGUE, PRICES), Metrics())
        self._runner = asyncio.Runner(loop_factory=SkippingLoop)

    def play(self, plan: Plan) -> Outcome:
        """From an empty database to the end."""
        return self._runner.run(self._player.play(plan))

    def shrink(self, outcome: Outcome) -> Outcome:
        """The smallest run that fails like this one."""
        return self._runner.run(shrunk(outcome, self._player.play))

    def close(self) -> None:
        """End its connections."""
        self._connections.close()
        self._runner.close()


class _Here(Executor):
    """This process: what is handed to it is done at once."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":  # noqa: ANN401 - as the base class
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


_mine: list[Worker] = []  # the one of this process


def play(plan: Plan) -> Outcome:
    """By the worker of this process."""
    return _mine[0].play(plan)


def shrink(outcome: Outcome) -> Outcome:
    """Likewise."""
    return _mine[0].shrink(outcome)


@contextmanager
def workers(database_urls: Sequence[str]) -> Iterator[Executor]:
    """Who does `play` and `shrink`: as many at once as there are databases. An error or Ctrl-C ends them at once."""
    if len(database_urls) == 1:
        _mine.append(Worker(database_urls[0]))
        try:
            yield _Here()
        finally:
            _mine.pop().close()
        return
    executor = _processes(database_urls)
    try:
        yield executor
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _processes(database_urls: Sequence[str]) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # imported once for all
    databases = context.SimpleQueue()
    for database_url in database_urls:
        databases.put(database_url)
    return ProcessPoolExecutor(len(database_urls), context, _begin, (databases,))


def _begin(databases: "SimpleQueue[str]") -> None:
    """In a new process: Ctrl-C is its parent's to handle, and it does not outlive its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    configure_logging("critical", "json")
    _mine.append(Worker(databases.get()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent, "a worker process has a parent"
    connection.wait([parent.sentinel])
    os._exit(1)
