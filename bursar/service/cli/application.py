"""The commands and what they share."""

from typing import Annotated

import typer

from bursar.service.cli.deferred import defer
from bursar.service.cli.errors import CommandLine

app = CommandLine(
    help="Bursar: the billing worker of hosted instances.",
    epilog="Settings come from the environment: docs/configuration.md lists them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _tell_version(asked: bool) -> None:  # noqa: FBT001 - Typer's callback
    if asked:
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - only it needs them

        try:
            typer.echo(f"bursar {version('bursar')}")
        except PackageNotFoundError:
            typer.echo("bursar, from a checkout")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[  # noqa: ARG001, FBT002 - its callback does it
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Bursar: the billing worker of hosted instances."""
    from bursar.service.observability.logs import configure_logging  # noqa: PLC0415 - the list of commands is quick

    configure_logging("error", "auto")  # a command speaks for itself; one that stays says more


COMMANDS = (
    ("up", "processes:up", "Run everything in one process tree, with private servers when none are configured."),
    ("web", "processes:web", "Serve Stripe's webhooks and the API."),
    ("worker", "processes:worker", "Handle messages and carry out steps."),
    ("scheduler", "processes:scheduler", "Make the ticks."),
    ("migrate", "processes:migrate", "Bring the database to this release's tables."),
    (
        "demo",
        "processes:demo",
        "Play the main job: start the service and stand-ins, replay Stripe's events, walk the clock, judge.",
    ),
    ("tick", "ticks:tick", "Run a sweep, or `hourly` for all of them."),
    (
        "why",
        "why:why",
        "Tell how a user's rows came to be as they are: what happened, why, and what followed; the oldest first.",
    ),
    ("backfill", "backfill:backfill", "Feed in the events that Stripe has and we never got, the oldest first."),
    ("reconcile", "reconcile:reconcile", "Compare rows with Stripe: missing here, missing there, different, stale."),
    (
        "simulate",
        "simulate:simulate",
        "Play months of the service's life in seconds, with faults, and check what must hold.",
    ),
    ("parked", "parked:group", "Messages that failed."),
    ("audit", "audit:group", "Credit accounts against their entries."),
    ("failures", "failures:group", "Renewals that failed."),
    ("mail", "mail:group", "The mails to users."),
    ("catalogue", "catalogue:group", "The numbers of the business."),
)

for name, home, sentence in COMMANDS:
    defer(app, name, f"bursar.service.cli.{home}", sentence)
