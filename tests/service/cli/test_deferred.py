"""The list of commands is quick, for it imports none; what it says of each is what the command says of itself."""

import subprocess
import sys
from itertools import chain

import pytest
from typer.main import get_group

from bursar.service.cli import app
from bursar.service.cli.deferred import Deferred, imported
from bursar.service.cli.parked import group as parked
from tests.service.processes.running import CHECKOUT

LISTED = """
import sys
from bursar.service.cli import app
try:
    app(["--help"])
finally:
    print(*sys.modules, file=sys.stderr)
"""


def deferred_commands() -> list[Deferred]:
    registered = chain(get_group(app).commands.values(), get_group(parked).commands.values())
    return [one for one in registered if isinstance(one, Deferred)]


def test_the_list_of_commands_imports_none_of_them() -> None:
    listed = subprocess.run([sys.executable, "-c", LISTED], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    ours = {name for name in listed.stderr.split() if name.startswith("bursar.")}
    assert "bursar.service.cli.application" in ours
    assert not ours - {
        "bursar.billing",
        "bursar.billing.errors",
        "bursar.service",
        "bursar.service.cli",
        "bursar.service.cli.application",
        "bursar.service.cli.deferred",
        "bursar.service.cli.errors",
    }
    assert "asyncio" not in listed.stderr.split()


@pytest.mark.parametrize("command", deferred_commands(), ids=lambda command: command.name)
def test_the_list_says_what_the_command_says_of_itself(command: Deferred) -> None:
    said = imported(command).help
    assert said is not None
    assert command.help is not None
    assert " ".join(said.split()).startswith(command.help)


def test_a_deferred_group_has_its_commands() -> None:
    told = next(one for one in deferred_commands() if one.name == "parked")
    assert list(imported(told).commands) == ["list", "show", "replay", "discard"]
