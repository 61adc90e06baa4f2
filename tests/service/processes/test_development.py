import stat
from pathlib import Path

from bursar.service.processes.development import development_settings, read_environment, write_environment


def test_what_is_set_is_kept_and_the_rest_is_made_up() -> None:
    made = development_settings({"CRON_SECRET": "mine", "APP_URL": ""}, {})
    assert "CRON_SECRET" not in made
    assert made["APP_URL"] == "http://127.0.0.1:3000"
    assert made["STRIPE_SECRET_KEY"].startswith("sk_test_")


def test_a_second_run_keeps_the_secrets_of_the_first() -> None:
    first = development_settings({}, {})
    assert development_settings({}, first) == first
    assert development_settings({}, {})["CRON_SECRET"] != first["CRON_SECRET"]


def test_nothing_is_made_up_beside_a_live_key() -> None:
    assert development_settings({"STRIPE_SECRET_KEY": "sk_live_1"}, {"CRON_SECRET": "kept"}) == {}


def test_settings_are_written_for_their_owner_alone_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "up" / "environment"
    settings = {"PLAIN": "a", "QUOTED": "a b'c\"$d", "URL": "amqp://u:p@h/?x=1&y=2"}
    write_environment(file, settings)
    assert read_environment(file) == settings
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_environment(tmp_path / "none") == {}
