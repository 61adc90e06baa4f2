"""Counts what decisions say of themselves, after each commit."""

from collections.abc import Callable, Sequence

from bursar.db.items import Outcome, OutcomeState
from bursar.service.observability.metrics import Metrics

DEFERRED = "deferred_by_cap"  # KC-74


def count_outcomes(metrics: Metrics) -> Callable[[Sequence[Outcome]], None]:
    """A listener for the decider's commits."""

    def listen(outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            if outcome.state is OutcomeState.APPLIED and outcome.decision:
                for name, number in outcome.decision.counts.items():
                    metrics.counts.labels(name).inc(number)
                metrics.destructions_deferred.inc(outcome.decision.counts.get(DEFERRED, 0))

    return listen
