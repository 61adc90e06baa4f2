"""Many plans, by one player or several, and what they came to."""

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field

from bursar.billing.errors import BursarError
from bursar.service.simulation.running import Outcome, Plan
from bursar.service.simulation.workers import play, shrink, workers

AHEAD = 4  # plans that wait per further worker: nobody is idle, and few are played in vain after a failure

Played = Callable[[Outcome], None]


class WorkerEnded(BursarError):
    """A worker process ended in the middle: killed, or out of memory."""


@dataclass(slots=True)
class Summary:
    """What was played, checked and found. `digests` are by seed."""

    jobs: int
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    digests: dict[int, str] = field(default_factory=dict)
    failed: Outcome | None = None
    smallest: Outcome | None = None

    def add(self, outcome: Outcome) -> None:
        """The next plan's."""
        self.counts.update(outcome.counts)
        self.checks.update(outcome.checks)
        self.digests[outcome.plan.seed] = outcome.digest
        if outcome.broken:
            self.failed = self.smallest = outcome


def simulate(database_urls: Sequence[str], plans: Sequence[Plan], played: Played, *, shrinks: bool = True) -> Summary:
    """Play until the first failure in the order of `plans`, which is made smaller if `shrinks`.

    As many plans at once as there are databases, which the caller made for this; `played` is told of each plan, in
    their order. Raises `WorkerEnded`.
    """
    summary, began = Summary(len(database_urls)), time.perf_counter()
    try:
        with workers(database_urls) as team:
            _play(team, plans, summary, played)
            if summary.failed and shrinks:
                summary.smallest = team.submit(shrink, summary.failed).result()
    except BrokenProcessPool:
        at = plans[min(len(summary.digests), len(plans) - 1)].seed
        message = f"A worker process of the simulation was killed, at seed {at} or soon after it."
        raise WorkerEnded(message) from None
    summary.seconds = time.perf_counter() - began
    return summary


def _play(team: Executor, plans: Sequence[Plan], summary: Summary, played: Played) -> None:
    with closing(in_order(team, plans, AHEAD * (summary.jobs - 1))) as outcomes:
        for outcome in outcomes:
            summary.add(outcome)
            played(outcome)
            if outcome.broken:
                return


def in_order(team: Executor, plans: Sequence[Plan], ahead: int) -> Generator[Outcome, None, None]:
    """The outcomes of the plans, at most so many of which are handed over ahead; closed early, those are not begun."""
    waiting: deque[Future[Outcome]] = deque()
    try:
        for plan in plans:
            waiting.append(team.submit(play, plan))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except GeneratorExit:
        for future in waiting:
            future.cancel()
        raise
