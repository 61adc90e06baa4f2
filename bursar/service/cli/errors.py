"""How a command ends badly: one sentence on standard error and exit code 1. Wrong usage is exit code 2."""

import sys
from typing import Any, NoReturn

import typer

from bursar.billing.errors import BursarError, describe


class CommandFailed(BursarError):
    """A command could not do what it was asked. The message is one sentence."""


class CommandLine(typer.Typer):
    """A Typer application whose commands end with a sentence instead of a traceback."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Typer's own signature
        """Run the command line; ends the process."""
        try:
            return super().__call__(*args, **kwargs)
        except BursarError as error:
            _fail(str(error))
        except Exception as error:  # noqa: BLE001 - a traceback may show values that must not be shown (MS-14)
            _fail(_sentence(error))


def _sentence(error: Exception) -> str:
    from asyncpg import OperatorInterventionError, PostgresConnectionError  # noqa: PLC0415 - `--help` needs no database

    if isinstance(error, ConnectionError | PostgresConnectionError | OperatorInterventionError):
        return f"A server went away meanwhile ({type(error).__name__})."
    return f"This is a bug: {describe(error)}."


def _fail(sentence: str) -> NoReturn:
    # Not again by Typer's own hook.
    sys.stderr.write(f"bursar: {sentence}\n")
    sys.exit(1)
