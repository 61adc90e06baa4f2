"""`bursar parked replay|discard`: one message or many; says before what would happen, and asks (MS-7)."""

import getpass
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from bursar.billing.errors import Retryable, describe
from bursar.billing.values import Value, as_dict
from bursar.db import parked_actions
from bursar.db.clock import real_now
from bursar.db.connections import Pool
from bursar.db.parked_actions import MAX_AT_ONCE, Signature
from bursar.db.parked_pages import ParkedFilter, ParkedSummary, parked_after, parked_of
from bursar.service.broker.topology import check_partitions
from bursar.service.cli.errors import CommandFailed
from bursar.service.cli.parked import AsJson, OfAccount, OfType, State, WithError, as_json, ask, print_table
from bursar.service.deciding.decider import DatabaseUnavailable
from bursar.service.operators.replaying import Prediction, Replayed, Replaying, ReplayOutcome
from bursar.service.processes.foundation import built
from bursar.service.settings import Settings, load_catalogue, load_settings

OPEN_STATES = (State.RETRYING, State.PARKED)
MAX_ID = (1 << 63) - 1
MAX_ACTOR_CHARACTERS, MAX_REASON_CHARACTERS = 200, 500

Ids = Annotated[
    list[int] | None,
    typer.Argument(metavar="[ID]...", min=1, max=MAX_ID, help="The ids that `list` shows; or none and a filter."),
]
After = Annotated[int, typer.Option(min=0, max=MAX_ID, help="With a filter: only those with a greater id.")]
Limit = Annotated[int, typer.Option(min=1, max=MAX_AT_ONCE, help="With a filter: how many at most, the oldest first.")]
Reason = Annotated[str, typer.Option(help="Why; kept with the action.")]
Actor = Annotated[str | None, typer.Option(help="Who acts; kept with the action. Default: the system's user.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what it would change.")]


class Selection(Value):
    """Messages by their ids, or the parked ones that a filter lets through."""

    ids: Sequence[int]
    wanted: ParkedFilter
    after: int
    limit: int


def replay(
    ids: Ids = None,
    type_: OfType = None,
    account: OfAccount = None,
    error: WithError = None,
    after: After = 0,
    limit: Limit = MAX_AT_ONCE,
    *,
    reason: Reason,
    actor: Actor = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Decide parked messages again, each under its own id; says before what that would change."""
    selection = _selection(ids, ParkedFilter(State.PARKED, type_, account, error), after, limit)
    signature = signature_of(actor, reason)
    if not dry_run:
        _require_an_answer(yes=yes)
    settings = load_settings(Settings)

    async def run(pool: Pool) -> None:
        messages = await _selected(pool, selection)
        replaying = await _replaying(pool, settings)
        predictions = await _predicted(replaying, messages)
        if not json:
            _print_predictions(messages, predictions)
        replayed: dict[int, Replayed] = {}
        if messages and not dry_run:
            _confirm(f"Replay {len(messages)} messages?", yes=yes)
            replayed = await _replayed(replaying, messages, signature)
        if json:
            typer.echo(as_json([_fields(one, predictions, replayed) for one in messages]))
        _conclude(replayed)

    ask(run)


def discard(
    ids: Ids = None,
    type_: OfType = None,
    account: OfAccount = None,
    error: WithError = None,
    after: After = 0,
    limit: Limit = MAX_AT_ONCE,
    *,
    reason: Reason,
    actor: Actor = None,
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Give parked messages up for good: they cannot be replayed after."""
    selection = _selection(ids, ParkedFilter(State.PARKED, type_, account, error), after, limit)
    signature = signature_of(actor, reason)
    _require_an_answer(yes=yes)

    async def run(pool: Pool) -> None:
        messages = await _selected(pool, selection)
        print_table(messages, stderr=True)
        done: set[int] = set()
        if messages:
            _confirm(f"Discard {len(messages)} messages?", yes=yes)
            async with pool.acquire() as connection:
                done = await parked_actions.discard(connection, [one.id for one in messages], signature, real_now())
        typer.echo(as_json({"discarded": sorted(done)}) if json else f"Discarded {len(done)} of {len(messages)}.")

    ask(run)


def _selection(ids: Sequence[int] | None, wanted: ParkedFilter, after: int, limit: int) -> Selection:
    is_filtered = bool(wanted.type or wanted.account_key or wanted.error)
    if bool(ids) == is_filtered:
        raise typer.BadParameter("name ids, or a filter: --type, --account, --error")
    if len(ids or ()) > MAX_AT_ONCE:
        raise typer.BadParameter(f"at most {MAX_AT_ONCE} at once")
    return Selection(list(dict.fromkeys(ids or ())), wanted, after, limit)


def signature_of(actor: str | None, reason: str) -> Signature:
    """Who acts, else the system's user, and why; wrong usage where either cannot be kept."""
    who, why = (actor if actor is not None else getpass.getuser()).strip(), reason.strip()
    for name, text, longest in (("--actor", who, MAX_ACTOR_CHARACTERS), ("--reason", why, MAX_REASON_CHARACTERS)):
        if not text or len(text) > longest or not text.isprintable():
            raise typer.BadParameter(f"{name} takes 1 to {longest} printable characters")
    return Signature(who, why)


def _require_an_answer(*, yes: bool) -> None:
    if not yes and not sys.stdin.isatty():
        raise typer.BadParameter("nobody can be asked here: add --yes, or --dry-run to only look")


def _confirm(question: str, *, yes: bool) -> None:
    if not yes and not typer.confirm(question, err=True):
        raise CommandFailed("Nothing was done.")


async def _selected(pool: Pool, selection: Selection) -> list[ParkedSummary]:
    async with pool.acquire() as connection:
        if not selection.ids:
            return await parked_after(connection, selection.wanted, selection.after, selection.limit)
        found = await parked_of(connection, selection.ids)
    for parked_id in sorted(set(selection.ids) - {one.id for one in found}):
        raise CommandFailed(f"There is no parked message {parked_id}.")
    for one in found:
        if one.state not in OPEN_STATES:
            raise CommandFailed(f"Message {one.id} was {one.state} already.")
    return found


async def _replaying(pool: Pool, settings: Settings) -> Replaying:
    catalogue = load_catalogue(settings.bursar_catalogue, settings.prices)
    async with pool.acquire() as connection:
        await check_partitions(connection, settings.bursar_partitions)
    return Replaying(built(settings, catalogue, pool).decider, catalogue)


async def _predicted(replaying: Replaying, messages: Sequence[ParkedSummary]) -> dict[int, Prediction]:
    with _bar() as bar:
        task = bar.add_task("Looking", total=len(messages))
        return await replaying.predict([one.id for one in messages], lambda number: bar.advance(task, number))


async def _replayed(
    replaying: Replaying, messages: Sequence[ParkedSummary], signature: Signature
) -> dict[int, Replayed]:
    """The oldest first; one that cannot be done now is passed over."""
    replayed = {}
    with _bar() as bar:
        for one in bar.track(messages, description="Replaying"):
            try:
                replayed[one.id] = await replaying.replay(one.id, signature)
            except DatabaseUnavailable:
                raise
            except Retryable as error:
                replayed[one.id] = Replayed(ReplayOutcome.FAILED, describe(error))
    return replayed


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _print_predictions(messages: Sequence[ParkedSummary], predictions: dict[int, Prediction]) -> None:
    for one in messages:
        prediction = predictions.get(one.id) or Prediction(ReplayOutcome.SETTLED)
        typer.echo(f"{one.id} {one.message_id} ({one.type}, {one.account_key or 'no account'}): {_said(prediction)}")
        for change in prediction.changes:
            typer.echo(f"  {change.entity} {change.entity_id}: {_difference(change.before, change.after)}")
            typer.echo(f"    because {change.reason}")
        for step in prediction.steps:
            typer.echo(f"  step {step.kind} {step.key}")


def _said(prediction: Prediction) -> str:
    match prediction.outcome:
        case ReplayOutcome.FAILED:
            return f"would fail again: {prediction.error}"
        case ReplayOutcome.SETTLED:
            return "was replayed or discarded meanwhile"
        case ReplayOutcome.APPLIED:
            if prediction.sweep:
                return f"would begin the sweep {prediction.sweep}"
            return "would change" if prediction.changes or prediction.steps else "would change nothing"


def _difference(before: dict[str, Any] | None, after: dict[str, Any]) -> str:
    if before is None:
        return "new, " + ", ".join(f"{name} {value}" for name, value in after.items())
    return ", ".join(f"{name} {before.get(name)} -> {value}" for name, value in after.items())


def _fields(one: ParkedSummary, predictions: dict[int, Prediction], replayed: dict[int, Replayed]) -> dict[str, Any]:
    prediction, result = predictions.get(one.id), replayed.get(one.id)
    return {
        "id": one.id,
        "message_id": one.message_id,
        "prediction": as_dict(prediction) if prediction else None,
        "replayed": as_dict(result) if result else None,
    }


def _conclude(replayed: dict[int, Replayed]) -> None:
    if not replayed:
        return
    ends = [one.outcome for one in replayed.values()]
    applied, failed = ends.count(ReplayOutcome.APPLIED), ends.count(ReplayOutcome.FAILED)
    typer.echo(f"Replayed {applied} of {len(ends)}.", err=True)
    if failed:
        raise CommandFailed(f"{failed} of {len(ends)} failed again and stay as they were; `parked list` says why.")
