"""`bursar parked list|show`: messages that failed (MS-7)."""

import asyncio
import json as jsons
from collections.abc import Awaitable, Callable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from bursar.billing.values import as_dict
from bursar.db.connections import Pool, open_pool
from bursar.db.parked_actions import ParkedAction, actions_of
from bursar.db.parked_pages import ParkedFilter, ParkedInFull, ParkedSummary, page_of_parked, parked_in_full
from bursar.service.cli.deferred import defer
from bursar.service.cli.errors import CommandFailed
from bursar.service.processes.starting import require_migrated, wait_for_database
from bursar.service.settings import DatabaseSettings, load_settings

WAIT_SECONDS = 3.0
MAX_LIMIT = 1_000

Answer = TypeVar("Answer")

group = typer.Typer(help="Messages that failed.", no_args_is_help=True, rich_markup_mode=None)


class State(StrEnum):
    """The states of a parked message."""

    RETRYING = "retrying"
    PARKED = "parked"
    REPLAYED = "replayed"
    DISCARDED = "discarded"


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OfType = Annotated[str | None, typer.Option("--type", help="Only those of this type.")]
OfAccount = Annotated[str | None, typer.Option("--account", help="Only those of this account, such as user:ada.")]
WithError = Annotated[str | None, typer.Option("--error", help="Only those whose error contains this.")]


@group.command("list")
def list_parked(
    state: Annotated[State | None, typer.Option(help="Only those in this state; default: all.")] = None,
    before: Annotated[int | None, typer.Option(help="Only those with a smaller id: the next page.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_LIMIT, help="How many at most.")] = 50,
    type_: OfType = None,
    account: OfAccount = None,
    error: WithError = None,
    *,
    json: AsJson = False,
) -> None:
    """List parked messages, the newest first."""
    wanted = ParkedFilter(state.value if state else None, type_, account, error)
    found = ask(lambda pool: _page(pool, wanted, before, limit))
    if json:
        typer.echo(as_json([as_dict(one) for one in found]))
    else:
        print_table(found)


@group.command()
def show(
    parked_id: Annotated[int, typer.Argument(metavar="ID", help="The id that `list` shows.")], *, json: AsJson = False
) -> None:
    """Show a parked message with its headers and what was done with it; of its body, the size only."""
    found, actions = ask(lambda pool: _one(pool, parked_id))
    if found is None:
        raise CommandFailed(f"There is no parked message {parked_id}.")
    fields = {
        **as_dict(found.summary),
        "headers": found.headers,
        "body_bytes": found.body_bytes,
        "actions": [as_dict(action) for action in actions],
    }
    if json:
        typer.echo(as_json(fields))
    else:
        for name, value in fields.items():
            typer.echo(f"{name}: {value}")


defer(
    group,
    "replay",
    "bursar.service.cli.parked_actions:replay",
    "Decide parked messages again, each under its own id; says before what that would change.",
)
defer(
    group,
    "discard",
    "bursar.service.cli.parked_actions:discard",
    "Give parked messages up for good: they cannot be replayed after.",
)


async def _page(pool: Pool, wanted: ParkedFilter, before: int | None, limit: int) -> list[ParkedSummary]:
    async with pool.acquire() as connection:
        return await page_of_parked(connection, wanted, before, limit)


async def _one(pool: Pool, parked_id: int) -> tuple[ParkedInFull | None, list[ParkedAction]]:
    async with pool.acquire() as connection:
        return await parked_in_full(connection, parked_id), await actions_of(connection, parked_id)


def ask(question: Callable[[Pool], Awaitable[Answer]]) -> Answer:
    """The answer to a question to the database; CommandFailed or StartError where there is none."""
    settings = load_settings(DatabaseSettings)

    async def answer() -> Answer:
        await wait_for_database(settings.database_url, WAIT_SECONDS)
        async with await open_pool(settings.database_url, max_size=1, name="bursar parked") as pool:
            await require_migrated(pool)
            return await question(pool)

    return asyncio.run(answer())


def as_json(value: Any) -> str:  # noqa: ANN401 - what JSON can hold
    """JSON for people and programs."""
    return jsons.dumps(value, default=_told, indent=2)


def _told(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def print_table(found: list[ParkedSummary], *, stderr: bool = False) -> None:
    """The messages, one a row."""
    table = Table()
    for name in ("id", "state", "type", "account", "message", "attempts", "last failed at", "error"):
        table.add_column(name, overflow="fold")
    for one in found:
        last_failed_at = f"{one.last_failed_at:%Y-%m-%d %H:%M:%S}Z"
        cells = (
            one.id,
            one.state,
            one.type,
            one.account_key or "",
            one.message_id,
            one.attempts,
            last_failed_at,
            one.error,
        )
        table.add_row(*(str(cell) for cell in cells))
    Console(stderr=stderr, highlight=False, markup=False).print(table)
