"""Commands that are imported when they are called: most import much, and the list of all is quick."""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand
from typer.main import get_command, get_group


class Deferred(TyperCommand):
    """Stands for a command in its group; its callback imports the command."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Typer's own signature
        """The context of the command itself, which is the one then invoked."""
        return imported(self).make_context(*args, **kwargs)


def defer(group: typer.Typer, name: str, home: str, sentence: str) -> None:
    """Register `home`, a command or a group written `module:name`; the sentence is the first of its own help."""
    module, _, attribute = home.partition(":")

    @group.command(name, cls=Deferred, help=sentence)
    def load() -> Any:  # noqa: ANN401 - a command of Typer's
        return _command_of(getattr(import_module(module), attribute))


def imported(deferred: Deferred) -> Any:  # noqa: ANN401 - a command of Typer's
    """The command that the other stands for."""
    assert deferred.callback, "made by `defer`"
    return deferred.callback()


def _command_of(registered: Any) -> Any:  # noqa: ANN401 - a function or a Typer; a command of Typer's
    if isinstance(registered, typer.Typer):
        return get_group(registered)
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    alone.command()(registered)
    return get_command(alone)
