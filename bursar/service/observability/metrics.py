"""The Prometheus metrics of one process, in a registry of their own. Passed through constructors, never global."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

from bursar.billing.steps import StepKind

LATENCY_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
BATCH_BUCKETS_MESSAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Every metric of the service. Labels are few and bounded: never a user, an account or a message."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._lanes()
        self._decisions()
        self._steps()
        self._stripe()
        self._checks()
        self._renewals()
        self._web()

    def _lanes(self) -> None:
        self.lane_messages = self._counter("lane_messages", "Messages taken off partitions.", "outcome")
        self.lane_batch_size = self._histogram("lane_batch_size", "Messages per batch.", BATCH_BUCKETS_MESSAGES)
        self.lane_depth = self._gauge(
            "lane_depth", "Messages that the lane received and has not acknowledged.", "partition"
        )
        self.lane_oldest_age_seconds = self._gauge(
            "lane_oldest_age_seconds", "Time since the lane received the oldest of them.", "partition"
        )
        self.lane_up = self._gauge("lane_up", "1 while this process consumes the partition, else 0.", "partition")

    def _decisions(self) -> None:
        self.decide_seconds = self._histogram("decide_seconds", "Time of one batch's transaction.")
        self.parked = self._gauge("parked", "Messages written down after a failure, by state.", "state")
        self.retries = self._counter("retries", "Messages decided again from their row.")
        self.counts = self._counter("counts", "What decisions count of themselves.", "name")
        self.destructions_deferred = self._counter(
            "destructions_deferred", "Destructions put off because the day's limit was used up."
        )
        self.settlements_unmatched = self._counter(
            "settlements_unmatched", "Invoices without entries, since old ones of their period cannot be matched."
        )
        self.subscriptions_beside_credits = self._counter(
            "subscriptions_beside_credits", "Subscriptions that were ended at Stripe beside an enrolment in credits."
        )
        self.ticks = self._counter("ticks", "Ticks accepted.", "sweep")

    def _steps(self) -> None:
        self.step_seconds = self._histogram(
            "step_seconds",
            "Time of one step, its outcome's decision included.",
            LATENCY_BUCKETS_SECONDS,
            "kind",
            "outcome",
        )
        self.steps_due = self._gauge("steps_due", "Steps that are due and not yet done.")
        self.steps_oldest_age_seconds = self._gauge(
            "steps_oldest_age_seconds", "How long the oldest due step is overdue."
        )
        self.steps_failed = self._counter(
            "steps_failed", "Steps that can go neither on nor back, or are out of attempts: an operator's.", "kind"
        )
        for kind in StepKind:
            self.steps_failed.labels(kind)  # from zero, so that the first is an increase
        self.instance_calls = self._counter("instance_calls", "Calls to the instance API.", "desired", "result")
        self.unresolved_instances = self._gauge(
            "unresolved_instances", "Instances not brought about for 24 hours, and every start that failed."
        )

    def _stripe(self) -> None:
        self.stripe_calls = self._counter("stripe_calls", "Requests to Stripe.", "method", "outcome")
        self.stripe_key_refused = self._counter(
            "stripe_key_refused", "Requests that Stripe turned away for the sake of our key: 401 or 403."
        )
        self.stripe_wait_seconds = self._histogram(
            "stripe_wait_seconds",
            "How long requests to Stripe waited for the budget.",
            LATENCY_BUCKETS_SECONDS,
            "priority",
        )

    def _checks(self) -> None:
        self.missed_events = self._counter(
            "missed_events", "Events of Stripe's that never came, by outcome.", "outcome"
        )
        for outcome in ("fed", "parked"):
            self.missed_events.labels(outcome)  # likewise
        self.reconcile_findings = self._gauge(
            "reconcile_findings", "What the last reconciliation of this process found, by kind.", "kind"
        )

    def _renewals(self) -> None:
        self.renewals_due = self._gauge("renewals_due", "Active rows whose renewal from credits is due.")
        self.renewals_oldest_age_seconds = self._gauge(
            "renewals_oldest_age_seconds", "How long the oldest of them is due, by business time."
        )
        self.renewal_failures = self._gauge("renewal_failures", "Renewals that failed unexpectedly, by state.", "state")
        self.renewal_failures_oldest_age_seconds = self._gauge(
            "renewal_failures_oldest_age_seconds", "How long ago the oldest of them failed first."
        )
        self.renewal_failed_attempts = self._gauge(
            "renewal_failed_attempts", "How often renewals that are still open were tried in vain."
        )

        self.credit_mismatches = self._gauge(
            "credit_mismatches", "Users whose charges are stopped, since their counters do not fit their entries."
        )

    def _web(self) -> None:
        self.webhooks = self._counter("webhooks", "Webhooks, by what became of them.", "answer")
        self.webhook_seconds = self._histogram("webhook_seconds", "Time to answer a webhook.")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"bursar_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"bursar_{name}", text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...] = LATENCY_BUCKETS_SECONDS, *labels: str
    ) -> Histogram:
        return Histogram(f"bursar_{name}", text, labels, buckets=buckets, registry=self.registry)
