"""The life of a process: its parts run supervised until a stop signal, then drain within the grace (MS-12)."""

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog
import uvloop

from bursar.billing.values import Value
from bursar.service.processes.supervision import Run, TaskState, supervise

log = structlog.get_logger()

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
EXIT_BY_SIGNAL = 128
COLLECTOR_THRESHOLDS = (50_000, 20, 20)
STANDARD_INPUT = 0
READ_BYTES = 4096


class Part(Value):
    """One long-running part of a process, and how it fares."""

    name: str
    run: Run
    state: TaskState

    @classmethod
    def of(cls, name: str, run: Run) -> "Part":
        return cls(name, run, TaskState(name))


def run_process(main: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run `main(stop)` on uvloop. The first stop signal sets `stop`, a second one ends the process at once."""

    async def with_signals() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, _on_signal, number, stop)
        await main(stop)

    collect_rarely()
    uvloop.run(with_signals())


def collect_rarely() -> None:
    """What a batch makes lives briefly and in no cycles: rarer passes cost an eighth less of a processor a message."""
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


def _on_signal(number: int, stop: asyncio.Event) -> None:
    if stop.is_set():
        os._exit(EXIT_BY_SIGNAL + number)
    log.info("stopping", signal=signal.Signals(number).name)
    stop.set()


async def run_parts(parts: Sequence[Part], stop: asyncio.Event, drain_seconds: float) -> None:
    """Run the parts until `stop`, then give them the grace to finish; what is left then is cancelled.

    What was cancelled was not acknowledged or settled: others take it up.
    """
    tasks = {
        asyncio.create_task(supervise(part.name, part.run, stop, state=part.state), name=part.name) for part in parts
    }
    try:
        await stop.wait()
        _, late = await asyncio.wait(tasks, timeout=drain_seconds)
        for task in late:
            log.warning("not drained within the grace", task=task.get_name(), grace_seconds=drain_seconds)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    log.info("stopped")


def exit_with_parent() -> None:
    """End this process at once when its standard input ends, which is when its parent is gone, even by `kill -9`."""

    def wait() -> None:
        # Not by `sys.stdin`, whose lock the interpreter wants when it ends.
        while os.read(STANDARD_INPUT, READ_BYTES):
            pass
        os._exit(EXIT_BY_SIGNAL + signal.SIGKILL)

    # A daemon thread, since a read of standard input cannot be interrupted.
    threading.Thread(target=wait, name="exit with parent", daemon=True).start()
