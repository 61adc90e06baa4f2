"""The commands and what they share."""

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from bursar.service.cli import (
    audit,
    backfill,
    catalogue,
    failures,
    mail,
    parked,
    parked_actions,
    processes,
    reconcile,
    simulate,
    ticks,
    why,
)
from bursar.service.cli.errors import CommandLine
from bursar.service.observability.logs import configure_logging

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
    configure_logging("error", "auto")  # a command speaks for itself; one that stays says more


app.command()(processes.up)
app.command()(processes.web)
app.command()(processes.worker)
app.command()(processes.scheduler)
app.command()(processes.migrate)
app.command()(processes.demo)
app.command()(ticks.tick)
app.command()(why.why)
app.command()(backfill.backfill)
app.command()(reconcile.reconcile)
app.command()(simulate.simulate)
parked.group.command()(parked_actions.replay)
parked.group.command()(parked_actions.discard)
app.add_typer(parked.group, name="parked")
app.add_typer(audit.group, name="audit")
app.add_typer(failures.group, name="failures")
app.add_typer(mail.group, name="mail")
app.add_typer(catalogue.group, name="catalogue")
