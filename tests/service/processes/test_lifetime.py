"""MS-12: stop signals drain. Tried on real processes with a part that finishes when it is told to on standard input."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

PROGRAM = """
import asyncio, sys
from bursar.service.observability.logs import configure_logging
from bursar.service.processes.lifetime import Part, exit_with_parent, run_parts, run_process
configure_logging("info", "json")

def say(word):
    print(word, flush=True)

async def work(stop):
    say("running")
    await stop.wait()
    say("draining")
    if not sys.argv[2:]:
        await asyncio.to_thread(sys.stdin.readline)
    say("drained")

async def main(stop):
    await run_parts([Part.of("work", work)], stop, drain_seconds=float(sys.argv[1]))
    say("ended")

if sys.argv[2:] == ["exit-with-parent"]:
    exit_with_parent()
run_process(main)
"""


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def next_word(of: subprocess.Popen[str]) -> str:
    assert of.stdout is not None
    return of.stdout.readline().strip()


def test_ms_12_a_signal_lets_running_work_finish() -> None:
    with process("60") as started:
        assert next_word(started) == "running"
        started.send_signal(signal.SIGTERM)
        assert next_word(started) == "draining"
        out, _ = started.communicate("finish\n", timeout=30)
        assert out.split() == ["drained", "ended"]
        assert started.returncode == 0


def test_ms_12_what_outlasts_the_grace_is_cancelled() -> None:
    with process("0.1") as started:
        assert next_word(started) == "running"
        started.send_signal(signal.SIGTERM)
        assert next_word(started) == "draining"
        assert next_word(started) == "ended"


def test_a_second_signal_ends_the_process_at_once() -> None:
    with process("60") as started:
        assert next_word(started) == "running"
        started.send_signal(signal.SIGINT)
        assert next_word(started) == "draining"
        started.send_signal(signal.SIGINT)
        assert started.wait(timeout=30) == 128 + signal.SIGINT


def test_a_process_that_would_end_with_its_parent_ends_well_before_it() -> None:
    with process("60", "exit-with-parent") as started:
        assert next_word(started) == "running"
        started.send_signal(signal.SIGTERM)
        assert [next_word(started) for _ in range(3)] == ["draining", "drained", "ended"]
        assert started.wait(timeout=30) == 0


def test_a_process_ends_with_its_parent() -> None:
    with process("60", "exit-with-parent") as started:
        assert next_word(started) == "running"
        assert started.stdin is not None
        started.stdin.close()
        assert started.wait(timeout=30) == 128 + signal.SIGKILL
