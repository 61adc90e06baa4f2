"""`bursar tick SWEEP --dry-run`: what a sweep would do, as a table or as JSON (KC-79)."""

import asyncio
import json as jsons
import os
from collections import Counter
from datetime import datetime
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from bursar.billing.catalogue import Prices
from bursar.billing.kiloclaw.foreseeing import Effect
from bursar.billing.values import as_dict
from bursar.db.clock import MachineClock, TestClock
from bursar.db.connections import open_pool
from bursar.service.broker.topology import stored_partitions
from bursar.service.processes.starting import require_migrated, wait_for_database
from bursar.service.settings import DEFAULT_CATALOGUE, BrokerSettings, load_catalogue
from bursar.sweeps.dry_run import DryRun, Place

SERVERS_SECONDS = 3.0
EFFECTS_AT_ONCE = 1_000


def foresee_sweep(settings: BrokerSettings, sweep: str, at: datetime | None, *, json: bool) -> None:
    """Print what the sweep would cause now, or at that instant of business time."""
    now, effects = asyncio.run(_foreseen(settings, sweep, at))
    if json:
        fields = {"sweep": sweep, "now": now.isoformat(), "effects": [as_dict(effect) for effect in effects]}
        typer.echo(jsons.dumps(fields, indent=2))
    else:
        _print(sweep, now, effects)


async def _foreseen(settings: BrokerSettings, sweep: str, at: datetime | None) -> tuple[datetime, list[Effect]]:
    path = Path(os.environ.get("BURSAR_CATALOGUE") or DEFAULT_CATALOGUE)
    catalogue = load_catalogue(path, Prices(standard=(), commit=()))
    await wait_for_database(settings.database_url, SERVERS_SECONDS)
    async with await open_pool(settings.database_url, max_size=1, name="bursar tick") as pool:
        await require_migrated(pool)
        async with pool.acquire() as connection:
            run = DryRun(sweep, catalogue, await stored_partitions(connection) or settings.bursar_partitions)
            clock = TestClock() if settings.bursar_test_clock else MachineClock()
            now = at or (await clock.situation(connection)).now
            effects = list[Effect]()
            following: Place | None = Place(now)
            while following:
                found, following = await run.effects(connection, following, EFFECTS_AT_ONCE)
                effects += found
    return now, effects


def _print(sweep: str, now: datetime, effects: list[Effect]) -> None:
    table = Table("sweep", "would cause", "account", "subject", "why", "condition")
    for effect in effects:
        table.add_row(
            effect.sweep, effect.kind, effect.account_key, effect.subject or "", effect.reason, effect.condition
        )
    if effects:
        Console(highlight=False, markup=False).print(table)
    counts = Counter(effect.kind for effect in effects)
    listed = ", ".join(f"{kind} {number}" for kind, number in sorted(counts.items())) or "nothing"
    typer.echo(f"{sweep} at {now:%Y-%m-%d %H:%M:%S}Z would cause: {listed}. Nothing was changed.")
