"""What a command says of an error: one sentence, and a bug only where it is one."""

import asyncpg
import pytest

from bursar.service.cli.errors import CommandFailed, CommandLine


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (CommandFailed("There is no such message."), "There is no such message."),
        (asyncpg.ConnectionDoesNotExistError("ann@example.com"), "A server went away meanwhile (ConnectionDoesNotExis"),
        (asyncpg.AdminShutdownError("ann@example.com"), "A server went away meanwhile (AdminShutdownError)."),
        (ConnectionResetError("ann@example.com"), "A server went away meanwhile (ConnectionResetError)."),
        (ZeroDivisionError("ann@example.com"), "This is a bug: ZeroDivisionError at "),
    ],
)
def test_ms_14_a_command_ends_with_one_sentence(
    error: Exception, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    app = CommandLine()

    @app.command()
    def fail() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        app([])
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert said.startswith(f"bursar: {sentence}")
    assert said.count("\n") == 1
    assert "ann@" not in said
