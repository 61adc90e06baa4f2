"""A wrong or missing setting stops the start with one sentence: the variable's name, never its value."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import pytest

from bursar.billing.catalogue import Prices
from bursar.service.settings import (
    DatabaseSettings,
    MailSettings,
    Settings,
    SettingsError,
    load_catalogue,
    load_settings,
)
from bursar.service.settings_page import PAGE, configuration_page

WHOLE = {
    "DATABASE_URL": "postgresql://bursar:db-pass@127.0.0.1/bursar",
    "AMQP_URL": "amqp://bursar:amqp-pass@127.0.0.1/",
    "STRIPE_SECRET_KEY": "sk_test_1234567890",
    "STRIPE_WEBHOOK_SECRET": "whsec_new, whsec_old",
    "STRIPE_KILOCLAW_STANDARD_PRICE_ID": "price_s2,price_s1",
    "STRIPE_KILOCLAW_COMMIT_PRICE_ID": "price_c",
    "STRIPE_KILOCLAW_EARLYBIRD_PRICE_ID": "price_e",
    "KILOCLAW_API_URL": "https://instances.example.com/",
    "KILOCLAW_INTERNAL_API_SECRET": "internal-secret",
    "CRON_SECRET": "cron-secret",
    "APP_URL": "https://app.example.com",
    "EMAIL_PROVIDER": "none",
}


class Load(Protocol):
    """Loads the settings from an environment that is whole but for the changes."""

    def __call__(self, **changes: str) -> Settings: ...


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)

    def loaded(**changes: str) -> Settings:
        for name, value in {**WHOLE, **changes}.items():
            monkeypatch.setenv(name, value)
        return load_settings(Settings)

    return loaded


def refusal(load: Load, **changes: str) -> str:
    with pytest.raises(SettingsError) as refused:
        load(**changes)
    return str(refused.value)


@pytest.mark.parametrize("name", WHOLE)
def test_a_missing_variable_is_named(load: Load, name: str) -> None:
    assert refusal(load, **{name: ""}) == f"{name} is missing."


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://hidden-value"),
        ("AMQP_URL", "hidden-value"),
        ("STRIPE_SECRET_KEY", "hidden-value"),
        ("STRIPE_API_BASE", "hidden-value"),
        ("KILOCLAW_API_URL", "hidden-value"),
        ("EMAIL_PROVIDER", "hidden-value"),
        ("EMAIL_FROM", "hidden-value"),
        ("SMTP_PORT", "hidden-value"),
        ("MAILGUN_API_KEY", "hidden value"),
        ("MAILGUN_API_BASE", "hidden-value"),
        ("CUSTOMERIO_APP_API_KEY", "hidden\nvalue"),
        ("CUSTOMERIO_API_BASE", "hidden-value"),
        ("STRIPE_KILOCLAW_BILLING_START", "2026-10-01T00:00:00"),
        ("BURSAR_WEB_PORT", "65536"),
        ("BURSAR_PARTITIONS", "-4"),
        ("BURSAR_TEST_CLOCK", "hidden-value"),
        ("BURSAR_DRAIN_SECONDS", "1e9"),
    ],
)
def test_a_wrong_value_is_named_and_not_shown(load: Load, name: str, value: str) -> None:
    said = refusal(load, **{name: value})
    assert said.startswith(f"{name} ")
    assert value not in said
    assert "\n" not in said


def test_all_faults_are_in_one_sentence(load: Load) -> None:
    said = refusal(load, CRON_SECRET="", APP_URL="here")
    assert said == "APP_URL must begin with https:// or http://; CRON_SECRET is missing."


@pytest.mark.parametrize("key", ["sk_live_1", "rk_live_1"])
def test_the_test_clock_is_refused_together_with_a_live_key(load: Load, key: str) -> None:
    assert not load(STRIPE_SECRET_KEY=key).bursar_test_clock
    said = refusal(load, STRIPE_SECRET_KEY=key, BURSAR_TEST_CLOCK="1")
    assert "BURSAR_TEST_CLOCK" in said
    assert key not in said


PROVIDERS = {
    "smtp": {"SMTP_HOST": "mail.example.com"},
    "mailgun": {"MAILGUN_API_KEY": "hidden-key", "MAILGUN_DOMAIN": "mg.example.com"},
    "customerio": {"CUSTOMERIO_APP_API_KEY": "hidden-key"},
}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_provider_needs_its_settings(load: Load, provider: str) -> None:
    needed = {"EMAIL_FROM": "Bursar <b@example.com>", **PROVIDERS[provider]}
    settings = load(EMAIL_PROVIDER=provider, **needed)
    assert settings.email_provider == provider
    assert "hidden" not in repr(settings)
    for name in needed:
        said = refusal(load, EMAIL_PROVIDER=provider, **{**needed, name: ""})
        assert said == f"{name} is missing: EMAIL_PROVIDER={provider} needs it."


def test_a_price_of_two_plans_is_refused(load: Load) -> None:
    assert "share a price id" in refusal(load, STRIPE_KILOCLAW_COMMIT_PRICE_ID="price_s1")


def test_several_values_are_separated_by_commas(load: Load) -> None:
    settings = load()
    assert [one.get_secret_value() for one in settings.stripe_webhook_secret] == ["whsec_new", "whsec_old"]
    assert settings.prices.standard == ("price_s2", "price_s1")


def test_kc_21_the_coupon_and_the_billing_start_are_optional(load: Load) -> None:
    assert (load().prices.earlybird_coupon_id, load().prices.billing_starts_at) == (None, None)
    start = "2026-10-01T00:00:00Z"
    prices = load(STRIPE_KILOCLAW_EARLYBIRD_COUPON_ID="coupon_1", STRIPE_KILOCLAW_BILLING_START=start).prices
    assert (prices.earlybird_coupon_id, prices.billing_starts_at) == ("coupon_1", datetime(2026, 10, 1, tzinfo=UTC))


def test_ms_14_settings_show_no_secret_when_printed(load: Load) -> None:
    printed = repr(load())
    for secret in ("db-pass", "amqp-pass", "sk_test_", "whsec_", "internal-secret", "cron-secret"):
        assert secret not in printed


def test_a_command_that_sends_a_mail_needs_the_settings_of_mails_only(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    load()
    for name in WHOLE.keys() - {"APP_URL", "EMAIL_PROVIDER"}:
        monkeypatch.delenv(name)
    assert load_settings(MailSettings).email_provider == "none"


def test_a_command_that_asks_the_database_needs_its_address_only(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    load()
    for name in WHOLE.keys() - {"DATABASE_URL"}:
        monkeypatch.delenv(name)
    assert load_settings(DatabaseSettings).database_url == WHOLE["DATABASE_URL"]


PRICES = Prices(standard=("price_s",), commit=("price_c",))
EARLYBIRD = "[kiloclaw.earlybird]\naccess_until = 2026-09-26T00:00:00Z\n"


def test_the_catalogue_takes_prices_from_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "catalogue.toml"
    file.write_text(EARLYBIRD + "[kiloclaw.trial]\ndays = 10\n")
    catalogue = load_catalogue(file, PRICES)
    assert catalogue.kiloclaw.trial.days == 10
    assert catalogue.prices == PRICES


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (EARLYBIRD + "[kiloclaw.trial]\ndays = -1\n", "kiloclaw.trial.days"),
        (EARLYBIRD + "[kiloclaw.trial]\ndayz = 1\n", "kiloclaw.trial.dayz"),
        ("[kiloclaw.trial]\n", "kiloclaw.earlybird"),
        (EARLYBIRD + "[prices]\n", "prices come from the environment"),
        ("[kiloclaw", "not TOML"),
    ],
)
def test_a_wrong_catalogue_is_refused_with_the_key(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "catalogue.toml"
    file.write_text(content)
    with pytest.raises(SettingsError) as refused:
        load_catalogue(file, PRICES)
    assert said in str(refused.value)
    assert "BURSAR_CATALOGUE" in str(refused.value)


def test_a_catalogue_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"BURSAR_CATALOGUE names a file that cannot be read"):
        load_catalogue(tmp_path / "none.toml", PRICES)


def test_the_configuration_page_is_what_the_class_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == configuration_page(), "run `python -m bursar.service.settings_page`"
