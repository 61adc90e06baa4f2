"""The commands that run the service. What they run is imported when they run: it is much, and the others are quick."""
# ruff: noqa: PLC0415

import asyncio
import json as jsons
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from bursar.service.settings import DatabaseSettings, Settings, load_settings

ExitWithParent = Annotated[bool, typer.Option("--exit-with-parent", hidden=True)]
EventsFolder = Annotated[
    Path | None,
    typer.Option("--events", exists=True, file_okay=False, help="Replay the lives recorded in this folder."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the outcome as JSON on standard output.")]


class ProcessMain(Protocol):
    """What a process does until it is told to stop."""

    def __call__(self, settings: Settings, stop: asyncio.Event) -> Coroutine[Any, Any, None]: ...


def up() -> None:
    """Run everything in one process tree, with private servers when none are configured.

    Ends on Ctrl-C or SIGTERM, and takes its processes and servers with it.
    """
    from rich.console import Console

    from bursar.service.observability.logs import configure_logging
    from bursar.service.processes.up import run_up

    configure_logging("info", "auto", process="up")
    run_up(Console(stderr=True, highlight=False, soft_wrap=True))


def web(*, exit_with_parent: ExitWithParent = False) -> None:
    """Serve Stripe's webhooks and the API. Any number may run."""
    from bursar.service.processes.web import run_web

    _run("web", run_web, exit_with_parent=exit_with_parent)


def worker(*, exit_with_parent: ExitWithParent = False) -> None:
    """Handle messages and carry out steps. Workers share the partitions among themselves."""
    from bursar.service.processes.worker import run_worker

    _run("worker", run_worker, exit_with_parent=exit_with_parent)


def scheduler(*, exit_with_parent: ExitWithParent = False) -> None:
    """Make the ticks. One of several leads, the others stand by."""
    from bursar.service.processes.scheduler import run_scheduler

    _run("scheduler", run_scheduler, exit_with_parent=exit_with_parent)


def migrate() -> None:
    """Bring the database to this release's tables. Waits up to a minute for it."""
    from bursar.db.migrate import migrate as apply_migrations
    from bursar.service.observability.logs import configure_logging
    from bursar.service.processes.starting import wait_for_database

    configure_logging("warning", "auto")

    async def apply(database_url: str) -> None:
        await wait_for_database(database_url)
        await apply_migrations(database_url)

    asyncio.run(apply(load_settings(DatabaseSettings).database_url))
    typer.echo("The database is migrated.", err=True)


def demo(events: EventsFolder = None, *, json: AsJson = False) -> None:
    """Play the main job: start the service and stand-ins, replay Stripe's events, walk the clock, judge.

    Takes the recorded lives where they are, else made ones. The exit code is 1 when something is wrong.
    """
    from rich.console import Console

    from bursar.service.processes.demo import run_demonstration

    outcome = run_demonstration(events, Console(stderr=json, highlight=False))
    if json:
        typer.echo(jsons.dumps(outcome.as_json(), indent=2))
    else:
        outcome.print_to(Console(highlight=False))
    sys.exit(outcome.exit_code)


def _run(name: str, main: ProcessMain, *, exit_with_parent: bool) -> None:
    from bursar.service.observability.logs import configure_logging
    from bursar.service.processes.lifetime import exit_with_parent as watch_parent
    from bursar.service.processes.lifetime import run_process

    settings = load_settings(Settings)
    configure_logging(settings.bursar_log_level, settings.bursar_log_format, process=name)
    if exit_with_parent:
        watch_parent()
    run_process(lambda stop: main(settings, stop))
