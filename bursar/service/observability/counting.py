"""Counts what decisions say of themselves, after each commit."""

from collections import Counter
from collections.abc import Callable, Sequence

import structlog

from bursar.billing.credits.settlement import Posting
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.endings import BESIDE_CREDITS
from bursar.billing.kiloclaw.following import UNKNOWN_PRICE
from bursar.db.items import Item, Outcome, OutcomeState
from bursar.service.observability.metrics import Metrics

log = structlog.get_logger()

DEFERRED = "deferred_by_cap"  # KC-74


def count_outcomes(metrics: Metrics) -> Callable[[Sequence[Outcome]], None]:
    """A listener for the decider's commits."""

    def listen(outcomes: Sequence[Outcome]) -> None:
        counts: Counter[str] = Counter()
        for outcome in outcomes:
            if outcome.state is OutcomeState.APPLIED and outcome.decision:
                for name, number in outcome.decision.counts.items():  # half of what `update` takes
                    counts[name] += number
                _alert_unmatched(metrics, outcome.item, outcome.decision)
                _alert_beside_credits(metrics, outcome.item, outcome.decision)
                _log_unknown_price(outcome.item, outcome.decision)
        for name, number in counts.items():
            metrics.counts.labels(name).inc(number)
        metrics.destructions_deferred.inc(counts[DEFERRED])

    return listen


def _alert_unmatched(metrics: Metrics, item: Item, decision: Decision) -> None:
    """CR-54: operators look at these by hand; the reason names the invoice."""
    unmatched = decision.counts.get(Posting.UNMATCHED, 0)
    if unmatched:
        metrics.settlements_unmatched.inc(unmatched)
        log.error("settlement not matched", account=item.key, cause=item.id, reason=decision.reason)


def _alert_beside_credits(metrics: Metrics, item: Item, decision: Decision) -> None:
    """CR-25: operators see that the money went back; the reason names the subscriptions."""
    ended = decision.counts.get(BESIDE_CREDITS, 0)
    if ended:
        metrics.subscriptions_beside_credits.inc(ended)
        log.error("subscription beside credits ended", account=item.key, cause=item.id, reason=decision.reason)


def _log_unknown_price(item: Item, decision: Decision) -> None:
    """KC-34: the plan was taken from the metadata, which may be out of date."""
    if UNKNOWN_PRICE in decision.counts:
        log.warning("plan taken from the metadata", account=item.key, cause=item.id, reason=decision.reason)
