"""`bursar worker`: lanes and steps."""

import asyncio
import os
import secrets
import socket
from collections.abc import Sequence

from bursar.billing.catalogue import Catalogue
from bursar.db.items import Item
from bursar.handlers.messages import ReceivedMessage, item_of
from bursar.service.broker.batches import Batches
from bursar.service.broker.lanes import Lanes
from bursar.service.broker.membership import Membership
from bursar.service.broker.publisher import MessagePublisher, open_publisher
from bursar.service.broker.read_ahead import ReadAhead
from bursar.service.broker.reading import Decode
from bursar.service.broker.retries import Retries
from bursar.service.broker.subscribers import Subscribers
from bursar.service.checks.auditing import Auditing, Auditor
from bursar.service.checks.gap_check import GapChecker
from bursar.service.checks.missed_events import EventsPublisher, MissedEvents
from bursar.service.checks.reconcile_step import Reconciler
from bursar.service.checks.reconciling import Reconciling
from bursar.service.deciding.joint import JointDecider
from bursar.service.observability.metrics import Metrics
from bursar.service.processes.foundation import Foundation, foundation
from bursar.service.processes.gauges import WaitingGauges
from bursar.service.processes.health import health_server
from bursar.service.processes.lifetime import Part, run_parts
from bursar.service.processes.outside import opened_outside
from bursar.service.processes.publishing import PublisherKeeper
from bursar.service.processes.readiness import ProcessReadiness
from bursar.service.settings import Settings
from bursar.service.steps.jobs import StepWork
from bursar.service.steps.runner import Outside, StepRunner
from bursar.service.ticks.expanding import TickExpander
from bursar.service.ticks.paging import Sweeping
from bursar.service.web.health import Check

LANES_SHOWN = 4
LAG_SECONDS = 300.0
CONNECTIONS = 16  # 4 batches, 1 batch of outcomes, and what claims, postpones and beats beside them


async def run_worker(settings: Settings, stop: asyncio.Event) -> None:
    """Take messages and carry out steps until `stop`, then finish what runs."""
    async with (
        foundation(settings, "worker", connections=CONNECTIONS) as base,
        open_publisher(settings.amqp_url, settings.bursar_partitions) as publisher,
        opened_outside(settings, base.metrics) as outside,
    ):
        lanes, working = _working_parts(base, publisher, outside)
        keeper = PublisherKeeper(publisher)
        states = [part.state for part in working]
        readiness = ProcessReadiness(
            base.pool, states, [keeper.check, lambda: check_lanes(lanes), lambda: check_lag(base.metrics)]
        )
        health = health_server(settings, base.metrics, readiness)
        parts = [*working, Part.of("publisher", keeper.run), Part.of("health", health.run)]
        await run_parts(parts, stop, settings.bursar_drain_seconds)


def _working_parts(base: Foundation, publisher: MessagePublisher, outside: Outside) -> tuple[Lanes, list[Part]]:
    decode, sweeping = decoder(base.catalogue), Sweeping(base.decider, base.catalogue)
    max_batch, at_once = base.settings.bursar_max_batch, base.settings.bursar_batches_at_once
    joint = JointDecider(base.decider, max_batch=max_batch, at_once=at_once)
    lanes = Lanes(
        base.settings.amqp_url,
        base.settings.bursar_partitions,
        membership=Membership(base.decider, worker_id(), base.settings.bursar_partitions),
        batches=Batches(joint, decode, sweeping, base.metrics),
        sweeps=sweeping,
        metrics=base.metrics,
        read_ahead=ReadAhead(max_batch, at_once),
        max_batch=max_batch,
    )
    runner = StepRunner(base.decider, outside, base.catalogue, base.metrics, checks=checks_of(base, publisher, outside))
    retries = Retries(base.decider, decode, sweeping, base.metrics)
    subscribers = Subscribers(
        base.settings.amqp_url,
        base.settings.bursar_partitions,
        expand=TickExpander(base.decider, publisher).expand,
        database=base.decider,
    )
    gauges = WaitingGauges(base.decider, base.metrics)
    return lanes, [
        Part.of("lanes", lanes.run),
        Part.of("steps", runner.run),
        Part.of("retries", retries.run),
        Part.of("ticks and dead letters", subscribers.run),
        Part.of("gauges", gauges.run),
    ]


def checks_of(base: Foundation, publisher: EventsPublisher, outside: Outside) -> Sequence[StepWork]:
    """The sweeps that a worker carries out as steps."""
    missed = MissedEvents(outside.checks, base.decider, publisher)
    repairs = base.settings.bursar_reconcile_repairs
    reconciling = Reconciling(outside.checks, base.decider, base.catalogue, repairs=repairs)
    return (
        GapChecker(missed, base.decider, base.metrics),
        Reconciler(reconciling, base.decider, base.metrics),
        Auditor(Auditing(base.decider), base.decider),
    )


def decoder(catalogue: Catalogue) -> Decode:
    """How messages become items under this catalogue."""

    def decode(message: ReceivedMessage, account_key: str) -> Item:
        return item_of(message, account_key, catalogue)

    return decode


def worker_id() -> str:
    """Who this worker is among the others: readable, and new with each start."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def check_lanes(lanes: Lanes) -> Check:
    """Every lane, for readiness: ours and those that stand by."""
    down = lanes.down
    shown = ", ".join(down[:LANES_SHOWN])
    return Check("lanes consume", ok=not down, detail=f"{len(down)} down, the first: {shown}" if down else "")


def check_lag(metrics: Metrics) -> Check:
    """How long the oldest message waits in a lane, for readiness."""
    ages = (sample.value for family in metrics.lane_oldest_age_seconds.collect() for sample in family.samples)
    oldest_seconds = max(ages, default=0.0)
    is_late = oldest_seconds > LAG_SECONDS
    return Check("lag", ok=not is_late, detail=f"a message waits for {oldest_seconds:.0f} s" if is_late else "")
