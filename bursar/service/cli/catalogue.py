"""`bursar catalogue check`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from bursar.billing.catalogue import Prices
from bursar.service.settings import DEFAULT_CATALOGUE, load_catalogue

group = typer.Typer(help="The numbers of the business.", no_args_is_help=True, rich_markup_mode=None)


@group.callback()
def options() -> None:
    """The numbers of the business."""


@group.command()
def check(
    file: Annotated[Path | None, typer.Argument(help="Default: BURSAR_CATALOGUE, else the shipped one.")] = None,
) -> None:
    """Check a catalogue file; names the key that is wrong."""
    path = file or Path(os.environ.get("BURSAR_CATALOGUE") or DEFAULT_CATALOGUE)
    load_catalogue(path, Prices(standard=(), commit=()))
    typer.echo("The catalogue is right.", err=True)
