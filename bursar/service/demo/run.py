"""The demo's walk: users and instances, the replay, the comparison with Stripe, then six weeks of business time."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
from rich.console import Console
from rich.progress import Progress, track

from bursar.billing.values import Value
from bursar.service.demo import figures, verdict
from bursar.service.demo.expectations import RowView, at_the_end, expected_rows, handled_event_ids
from bursar.service.demo.lives import Life, all_events, customers_of_users, last_instant
from bursar.service.demo.outcome import Outcome
from bursar.service.demo.product import Product
from bursar.service.demo.replay import ReplayFigures, deliveries, replay

# A trial of 30 days, 7 days until destruction, each acted on at the first tick past its instant, and a day to spare.
DAYS = 41
HTTP_SECONDS = 30.0

Wait = Callable[[], Awaitable[None]]


class World(Value):
    """Where the running service and the stand-ins are, and the secrets they were started with."""

    web_url: str
    database_url: str
    instances_url: str
    mails_url: str
    api_secret: str
    cron_secret: str
    webhook_secret: str


class Plan(Value):
    """What to play. The clock starts an hour after the last event: no read from Stripe may be older than an event."""

    lives: Sequence[Life]
    trial_users: Sequence[str] = ("trial-una", "trial-vic", "trial-wes")
    seed: int = 1
    doubled: float = 0.2

    @property
    def begins_at(self) -> datetime:
        return datetime.fromtimestamp(last_instant(self.lives), UTC) + timedelta(hours=1)


class _Replayed(Value):
    figures: ReplayFigures
    seconds: float
    rows: dict[str, RowView]
    handled: set[str]


async def run_demo(
    world: World, plan: Plan, *, wait_until_quiet: Wait, wait_until_settled: Wait, console: Console
) -> Outcome:
    """Play the plan against a running service on an empty database, with a test clock.

    `wait_until_settled` returns once no step and no instance waits to be brought about, `wait_until_quiet` once no
    message is queued or in hand either.
    Raises `DemoFailedError` where the service refuses what the walk rests on, or a tick does not end.
    """
    async with _product(world) as product:
        await _prepare(product, plan, console)
        replayed = await _replay(world, plan, wait_until_quiet, console)
        await _walk(product, plan, wait_until_settled, console)
    return await _judge(world, plan, replayed)


async def _prepare(product: Product, plan: Plan, console: Console) -> None:
    """Everyone has an instance; the lives' users get theirs with a trial that their subscription takes over (KC-30)."""
    customers = customers_of_users(plan.lives)
    await product.set_clock(plan.begins_at)
    for user in track([*plan.trial_users, *customers], "Users and instances", console=console, transient=True):
        await product.put_user(user, customers.get(user))
        if user in plan.trial_users:
            await product.start_trial(user)
        await product.provision(user, verdict.instance_of(user))


async def _replay(world: World, plan: Plan, wait_until_quiet: Wait, console: Console) -> _Replayed:
    queue = deliveries(all_events(plan.lives), seed=plan.seed, doubled=plan.doubled)
    url = f"{world.web_url}/webhooks/stripe"
    began = time.monotonic()
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("Webhooks", total=len(queue))
        done = await replay(queue, url=url, secret=world.webhook_secret, on_delivered=lambda: progress.advance(task))
    await wait_until_quiet()
    seconds = time.monotonic() - began
    async with _database(world) as connection:
        rows = await figures.subscription_rows(connection)
        handled = await figures.handled_ids(connection, {event["id"] for event in queue})
    return _Replayed(done, seconds, rows, handled)


async def _walk(product: Product, plan: Plan, wait_until_settled: Wait, console: Console) -> None:
    """A tick a day, each followed until nothing is left to do."""
    for day in track(range(1, DAYS + 1), "Days", console=console, transient=True):
        now = plan.begins_at + timedelta(days=day)
        await product.set_clock(now)
        await product.run_hourly_tick(now)
        await wait_until_settled()


async def _judge(world: World, plan: Plan, replayed: _Replayed) -> Outcome:
    async with _database(world) as connection:
        rows = await figures.subscription_rows(connection)
        parked = await figures.parked_messages(connection)
        steps = await figures.open_steps(connection)
    mails = await _told(f"{world.mails_url}/_mails")
    calls = await _told(f"{world.instances_url}/_calls")
    at_stripe = expected_rows(plan.lives, plan.trial_users)
    judged = verdict.judge(
        len(at_stripe),
        verdict.delivery_faults(replayed.figures.answers, replayed.figures.undelivered),
        verdict.row_faults(at_stripe, replayed.rows, "after the replay"),
        verdict.row_faults(at_the_end(at_stripe), rows, "at the end"),
        verdict.mail_faults(at_stripe, mails["mails"]),
        verdict.instance_faults(at_stripe, calls["instances"]),
        verdict.message_faults(handled_event_ids(plan.lives), replayed.handled, parked, steps),
    )
    accepted = replayed.figures.accepted
    return Outcome(
        lives=len(plan.lives),
        events=len(all_events(plan.lives)),
        replayed=replayed.figures,
        seconds=replayed.seconds,
        handled=len(replayed.handled),
        duplicates_dropped=sum(accepted[event_id] - 1 for event_id in replayed.handled),
        at_stripe=at_stripe,
        found=replayed.rows,
        mails_by_type=mails["by_type"],
        calls=calls,
        parked=parked,
        days_walked=DAYS,
        verdict=judged,
    )


async def _told(url: str) -> dict[str, Any]:
    async with httpx.AsyncClient(timeout=HTTP_SECONDS) as client:
        answer = await client.get(url)
    told: dict[str, Any] = answer.raise_for_status().json()
    return told


@asynccontextmanager
async def _product(world: World) -> AsyncIterator[Product]:
    async with (
        httpx.AsyncClient(base_url=world.web_url, timeout=HTTP_SECONDS) as service,
        httpx.AsyncClient(base_url=world.instances_url, timeout=HTTP_SECONDS) as instances,
    ):
        yield Product(service, instances, world.api_secret, world.cron_secret)


@asynccontextmanager
async def _database(world: World) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(world.database_url)
    try:
        yield connection
    finally:
        await connection.close()
