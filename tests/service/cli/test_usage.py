"""An error is one sentence on standard error and exit code 1; wrong usage is exit code 2."""

from pathlib import Path

import pytest

from tests.service.cli.running import Ran, bursar

CLOSED_PORT = "127.0.0.1:9"


def is_one_sentence(ran: Ran) -> bool:
    return ran.exit_code == 1 and ran.out == "" and ran.err.startswith("bursar: ") and ran.err.count("\n") == 1


def test_help_names_every_command() -> None:
    ran = bursar("--help")
    assert ran.exit_code == 0
    for command in (
        "up",
        "web",
        "worker",
        "scheduler",
        "migrate",
        "demo",
        "tick",
        "backfill",
        "reconcile",
        "parked",
        "mail",
        "catalogue",
    ):
        assert f"\n  {command} " in ran.out


def test_the_version_is_told() -> None:
    assert bursar("--version").out.startswith("bursar")


@pytest.mark.parametrize(
    "arguments",
    [
        ("destroy",),
        ("web", "--fast"),
        ("tick",),
        ("tick", "no_such_sweep"),
        ("tick", "hourly", "--at", "yesterday"),
        ("parked", "list", "--state", "lost"),
        ("parked", "list", "--limit", "0"),
        ("parked", "show", "seven"),
        ("mail", "preview"),
        ("mail", "preview", "claw_unheard_of"),
        ("mail", "send-test", "claw_trial_5d"),
        ("demo", "--events", "no/such/folder"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    ran = bursar(*arguments)
    assert ran.exit_code == 2
    assert ran.out == ""
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("command", ["web", "worker", "scheduler"])
def test_a_process_without_settings_says_which(command: str) -> None:
    ran = bursar(command)
    assert is_one_sentence(ran)
    assert "DATABASE_URL is missing; AMQP_URL is missing" in ran.err


@pytest.mark.parametrize("arguments", [("migrate",), ("tick", "hourly"), ("parked", "list")])
def test_a_command_without_the_database_says_so(arguments: tuple[str, ...]) -> None:
    ran = bursar(*arguments)
    assert is_one_sentence(ran)
    assert "DATABASE_URL is missing" in ran.err


def test_a_database_that_does_not_answer_is_said_without_its_address() -> None:
    ran = bursar("parked", "list", DATABASE_URL=f"postgresql://ann:hidden@{CLOSED_PORT}/bursar")
    assert is_one_sentence(ran)
    assert "did not answer within 3 s" in ran.err
    assert "hidden" not in ran.err


def test_up_with_one_server_of_two_says_which_is_missing() -> None:
    ran = bursar("up", DATABASE_URL=f"postgresql://ann@{CLOSED_PORT}/bursar")
    assert is_one_sentence(ran)
    assert "AMQP_URL" in ran.err


def test_the_shipped_catalogue_is_right() -> None:
    assert bursar("catalogue", "check").exit_code == 0


def test_a_wrong_catalogue_is_refused_with_the_key(tmp_path: Path) -> None:
    file = tmp_path / "catalogue.toml"
    file.write_text("[kiloclaw.earlybird]\naccess_until = 2026-09-26T00:00:00Z\n[kiloclaw.grace]\npast_due_days = -1\n")
    for ran in (bursar("catalogue", "check", str(file)), bursar("catalogue", "check", BURSAR_CATALOGUE=str(file))):
        assert is_one_sentence(ran)
        assert "kiloclaw.grace.past_due_days" in ran.err
