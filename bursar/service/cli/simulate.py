"""`bursar simulate`: seeded runs of the whole service with simulated faults, what must hold checked all along."""
# ruff: noqa: PLC0415 - what it runs is much, and the other commands are quick

import json as jsons
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from bursar.service.simulation.running import Outcome
    from bursar.service.simulation.session import Summary

DEFAULT_STEPS = 100
MAX_STEPS = 10_000
MAX_SEEDS = 1_000_000
MAX_JOBS = 8


def simulate(
    seeds: Annotated[int, typer.Option(min=1, max=MAX_SEEDS, help="How many seeds to play.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    steps: Annotated[int, typer.Option(min=0, max=MAX_STEPS, help="Actions and faults per seed.")] = DEFAULT_STEPS,
    without: Annotated[str, typer.Option(metavar="KIND,KIND", help="Actions and faults that are left out.")] = "",
    jobs: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_JOBS, help="Processes that play at once.", show_default="a core each, at most 8"),
    ] = None,
    *,
    shrink: Annotated[bool, typer.Option(help="Make the first failure smaller before it is told.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Play months of the service's life in seconds, with faults, and check what must hold.

    Makes databases of its own on the server of DATABASE_URL, else on a private one, and drops them in the end. The
    same seed plays the same. The exit code is 1 when an invariant does not hold; then the smallest run that shows it
    is printed.
    """
    from rich.console import Console
    from rich.progress import Progress

    from bursar.service.observability.logs import configure_logging
    from bursar.service.simulation.playground import playground
    from bursar.service.simulation.running import Plan
    from bursar.service.simulation.session import simulate as play

    configure_logging("critical", "json")
    plans = [Plan(number, steps, _known(without)) for number in range(seed, seed + seeds)]
    at_once = min(jobs or os.cpu_count() or 1, MAX_JOBS, seeds)
    with playground(at_once) as databases, Progress(console=Console(stderr=True), transient=True) as bar:
        playing = bar.add_task("Seeds", total=len(plans))
        summary = play(databases, plans, lambda _: bar.advance(playing), shrinks=shrink)
    typer.echo(jsons.dumps(_fields(summary), indent=2) if json else _as_text(summary))
    sys.exit(1 if summary.failed else 0)


def _known(without: str) -> frozenset[str]:
    from bursar.service.simulation.actions import ACTIONS
    from bursar.service.simulation.faults import FaultKind

    wanted = frozenset(name for part in without.split(",") if (name := part.strip()))
    unknown = wanted - {one.name for one in ACTIONS} - set(FaultKind)
    if unknown:
        raise typer.BadParameter(f"there is no action or fault {min(unknown)!r}")
    return wanted


def _fields(summary: "Summary") -> dict[str, object]:
    return {
        "seeds": len(summary.digests),
        "jobs": summary.jobs,
        "seconds": round(summary.seconds, 1),
        "digests": {str(seed): digest for seed, digest in summary.digests.items()},
        "happened": dict(sorted(summary.counts.items())),
        "checked": dict(sorted(summary.checks.items())),
        "failure": _failure(summary.smallest) if summary.smallest else None,
    }


def _failure(outcome: "Outcome") -> dict[str, object]:
    assert outcome.broken, "a failure names its invariant"
    return {
        "rule": outcome.broken.rule,
        "invariant": outcome.broken.sentence,
        "found": outcome.broken.found,
        "command": outcome.plan.command,
        "trace": list(outcome.lines),
    }


def _as_text(summary: "Summary") -> str:
    from bursar.service.simulation.actions import ACTIONS
    from bursar.service.simulation.faults import FaultKind

    counts = summary.counts
    actions, faults = [one.name for one in ACTIONS], [kind.value for kind in FaultKind]
    lines = [
        f"{len(summary.digests)} seeds in {summary.seconds:.1f} s, {summary.jobs} at once.",
        "Actions: " + ", ".join(f"{counts[name]} {name}" for name in actions if counts[name]),
        "Faults: " + ", ".join(f"{counts[name]} {name}" for name in faults if counts[name]),
        f"Invariants: {len(summary.checks)}, checked {summary.checks.total()} times.",
    ]
    if summary.smallest is None or summary.smallest.broken is None:
        return "\n".join([*lines, "Nothing was lost, nothing was done twice."])
    broken = summary.smallest.broken
    told = [f"{broken.rule} does not hold: {broken.sentence}.", f"Found: {broken.found}", "What happened last:"]
    return "\n".join([*lines, *told, *summary.smallest.lines, f"Again: {summary.smallest.plan.command}"])
