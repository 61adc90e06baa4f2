"""`bursar failures list|retry|resolve|waive`: renewals that failed unexpectedly (CR-63)."""

from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bursar.billing.values import as_dict
from bursar.db.connections import Pool
from bursar.db.renewal_failure_actions import Settled
from bursar.db.renewal_failures import RenewalFailure, failure_of, page_of_failures
from bursar.service.broker.topology import check_partitions
from bursar.service.cli.errors import CommandFailed
from bursar.service.cli.parked import MAX_LIMIT, AsJson, as_json, ask
from bursar.service.cli.parked_actions import MAX_ID, Actor, Reason, signature_of
from bursar.service.operators.renewing import FailedRenewals, RetryOutcome
from bursar.service.processes.foundation import built
from bursar.service.settings import Settings, load_catalogue, load_settings

group = typer.Typer(help="Renewals that failed.", no_args_is_help=True, rich_markup_mode=None)

FailureId = Annotated[int, typer.Argument(metavar="ID", min=1, max=MAX_ID, help="The id that `list` shows.")]
COLUMNS = ("id", "state", "account_key", "boundary", "category", "attempts", "first_failed_at", "error")


class State(StrEnum):
    """The states of a failed renewal."""

    RETRYING = "retrying"
    UNRESOLVED = "unresolved"
    RESOLVED = "resolved"
    WAIVED = "waived"
    SUPERSEDED = "superseded"


@group.command("list")
def list_failures(
    state: Annotated[State | None, typer.Option(help="Only those in this state; default: all.")] = None,
    before: Annotated[int | None, typer.Option(help="Only those with a smaller id: the next page.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_LIMIT, help="How many at most.")] = 50,
    *,
    json: AsJson = False,
) -> None:
    """List failed renewals, the newest first."""

    async def page(pool: Pool) -> list[RenewalFailure]:
        async with pool.acquire() as connection:
            return await page_of_failures(connection, state.value if state else None, before, limit)

    found = [as_dict(one) for one in ask(page)]
    if json:
        typer.echo(as_json(found))
    else:
        _print(found)


@group.command()
def retry(failure_id: FailureId, *, reason: Reason, actor: Actor = None, json: AsJson = False) -> None:
    """Try a renewal again, now; it is resolved unless it fails again or waits for the card on file."""
    signature, settings = signature_of(actor, reason), load_settings(Settings)

    async def run(pool: Pool) -> None:
        await _require(pool, failure_id)
        retried = await (await _renewals(pool, settings)).retry(failure_id, signature)
        _say({"id": failure_id, **as_dict(retried)}, json=json, sentence=f"Renewal {failure_id}: {retried.outcome}.")
        if retried.outcome is RetryOutcome.FAILED:
            raise CommandFailed(f"Renewal {failure_id} failed again: {retried.error}")

    ask(run)


@group.command()
def resolve(failure_id: FailureId, *, reason: Reason, actor: Actor = None, json: AsJson = False) -> None:
    """Say that a failed renewal was put right otherwise; a second time does nothing."""
    _settle(failure_id, "resolved", actor, reason, json=json)


@group.command()
def waive(failure_id: FailureId, *, reason: Reason, actor: Actor = None, json: AsJson = False) -> None:
    """End the protection of the row without a renewal; a second time does nothing."""
    _settle(failure_id, "waived", actor, reason, json=json)


def _settle(failure_id: int, state: Settled, actor: str | None, reason: str, *, json: bool) -> None:
    signature, settings = signature_of(actor, reason), load_settings(Settings)

    async def run(pool: Pool) -> None:
        await _require(pool, failure_id)
        changed = await (await _renewals(pool, settings)).settle(failure_id, state, signature)
        now = await _require(pool, failure_id)
        said = f"Renewal {failure_id} is {now.state}." if changed else f"Renewal {failure_id} was {now.state} already."
        _say({"id": failure_id, "state": now.state, "changed": changed}, json=json, sentence=said)

    ask(run)


async def _require(pool: Pool, failure_id: int) -> RenewalFailure:
    async with pool.acquire() as connection:
        failure = await failure_of(connection, failure_id)
    if failure is None:
        raise CommandFailed(f"There is no failed renewal {failure_id}.")
    return failure


async def _renewals(pool: Pool, settings: Settings) -> FailedRenewals:
    catalogue = load_catalogue(settings.bursar_catalogue, settings.prices)
    async with pool.acquire() as connection:
        await check_partitions(connection, settings.bursar_partitions)
    return FailedRenewals(built(settings, catalogue, pool).decider, catalogue)


def _say(fields: dict[str, Any], *, json: bool, sentence: str) -> None:
    typer.echo(as_json(fields) if json else sentence)


def _print(found: list[dict[str, Any]]) -> None:
    table = Table()
    for name in COLUMNS:
        table.add_column(name.replace("_", " "), overflow="fold")
    for one in found:
        table.add_row(*(str(one[name]) for name in COLUMNS))
    Console(highlight=False, markup=False).print(table)
