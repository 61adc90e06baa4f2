"""Every bound of the work outside Postgres, in one table: how many at once, how long, how often, how far apart."""

import random
from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType

from bursar.billing.kiloclaw.rows import DesiredState
from bursar.billing.steps import StepKind
from bursar.billing.values import Value
from bursar.service.gateways import instances, smtp, stripe

LEASE = timedelta(seconds=60)  # real time; whoever outlasts it has lost the step
POLL_SECONDS = 1.0  # for what another process asked for; our own commits wake us at once
JITTER = 0.2


class Backoff(Value):
    """Delays that double from the first up to the cap."""

    first: timedelta
    cap: timedelta

    def delay(self, attempts: int, at_least_seconds: float | None = None) -> timedelta:
        """After so many attempts, with jitter against crowds; at least what the other side wished for."""
        doubled = self.first * (1 << min(attempts - 1, 30))
        spread = random.uniform(1, 1 + JITTER)  # noqa: S311 - jitter, not a secret
        return max(min(doubled, self.cap) * spread, timedelta(seconds=at_least_seconds or 0))


class Bounds(Value):
    """Of one kind of step. `at_once` is what its gateway has connections for, so that no call waits for another."""

    at_once: int
    timeout_seconds: float  # of the whole attempt, below the lease
    attempts: int  # then it is failed, for an operator
    backoff: Backoff


STEPS: Mapping[StepKind, Bounds] = MappingProxyType(
    {
        # within a day: 1 min, 2 min, … 4 h, 4 h
        StepKind.SEND_MAIL: Bounds(smtp.MAX_CONNECTIONS, 45, 12, Backoff(timedelta(minutes=1), timedelta(hours=4))),
        StepKind.READ_SUBSCRIPTIONS: Bounds(
            stripe.MAX_CONNECTIONS, 45, 20, Backoff(timedelta(seconds=1), timedelta(minutes=5))
        ),
        # over five hours; a command's operation goes only back after 15 min
        StepKind.OPERATION: Bounds(8, 45, 20, Backoff(timedelta(seconds=2), timedelta(minutes=30))),
        StepKind.KEEP_SCHEDULE: Bounds(8, 45, 20, Backoff(timedelta(seconds=2), timedelta(minutes=30))),
        # likewise: while nothing is known of a payment, its one key is asked again
        StepKind.TOP_UP: Bounds(8, 45, 20, Backoff(timedelta(seconds=2), timedelta(minutes=30))),
        # page by page, each renewing the lease; the next hour asks again
        StepKind.GAP_CHECK: Bounds(1, 45, 5, Backoff(timedelta(seconds=10), timedelta(minutes=5))),
        StepKind.RECONCILE: Bounds(1, 45, 5, Backoff(timedelta(seconds=10), timedelta(minutes=5))),
        StepKind.AUDIT: Bounds(1, 45, 5, Backoff(timedelta(seconds=10), timedelta(minutes=5))),
        # over a day: the refund's event comes once
        StepKind.FIND_INVOICE: Bounds(2, 45, 20, Backoff(timedelta(seconds=5), timedelta(hours=4))),
        # over four days: nobody else ends what a deleted user would go on paying
        StepKind.END_SUBSCRIPTION: Bounds(4, 45, 40, Backoff(timedelta(seconds=5), timedelta(hours=4))),
        StepKind.END_CUSTOMER: Bounds(4, 45, 40, Backoff(timedelta(seconds=5), timedelta(hours=4))),
        StepKind.RETURN_TOP_UP: Bounds(2, 45, 40, Backoff(timedelta(seconds=5), timedelta(hours=4))),
    }
)

INSTANCES_AT_ONCE = instances.MAX_CONNECTIONS
INSTANCES_TIMEOUT_SECONDS = 30.0
# Without an end: a state that is wanted stays wanted, and operators see it (KC-77, KC-92).
INSTANCES: Mapping[DesiredState, Backoff] = MappingProxyType(
    {
        "running": Backoff(timedelta(hours=2), timedelta(hours=24)),
        "stopped": Backoff(timedelta(seconds=10), timedelta(hours=1)),
        "destroyed": Backoff(timedelta(seconds=10), timedelta(hours=1)),
    }
)
UNRESOLVED_AFTER = timedelta(hours=24)
