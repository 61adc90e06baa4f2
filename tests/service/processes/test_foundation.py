"""What processes are built from, against a real database."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from bursar.billing.errors import UnreadableMessage
from bursar.db.clock import MachineClock, TestClock, real_now
from bursar.db.items import MessageCopy
from bursar.db.parked import FailedMessage, record_first_failures
from bursar.service.gateways.customerio import Customerio
from bursar.service.gateways.mail import NoMail
from bursar.service.gateways.mailgun import Mailgun
from bursar.service.gateways.smtp import SmtpMail
from bursar.service.processes.foundation import Foundation, foundation
from bursar.service.processes.gauges import WaitingGauges
from bursar.service.processes.outside import opened_mail
from bursar.service.processes.readiness import ProcessReadiness
from bursar.service.processes.starting import StartError
from bursar.service.processes.supervision import TaskState
from bursar.service.settings import Settings, SettingsError
from tests.service.broker.proxy import proxied

STATES = ("retrying", "parked")


def settings_of(database_url: str, amqp_url: str, **changes: object) -> Settings:
    values = {
        "database_url": database_url,
        "amqp_url": amqp_url,
        "stripe_secret_key": "sk_test_1",
        "stripe_webhook_secret": "whsec_1",
        "stripe_kiloclaw_standard_price_id": "price_s",
        "stripe_kiloclaw_commit_price_id": "price_c",
        "stripe_kiloclaw_earlybird_price_id": "price_e",
        "kiloclaw_api_url": "http://127.0.0.1:9",
        "kiloclaw_internal_api_secret": "internal",
        "cron_secret": "cron",
        "app_url": "https://app.example.com",
        "email_provider": "none",
        **changes,
    }
    return Settings.model_validate(values)


@pytest.fixture
def settings(database_url: str, amqp_url: str) -> Settings:
    return settings_of(database_url, amqp_url)


@pytest.fixture
async def base(settings: Settings) -> AsyncIterator[Foundation]:
    async with foundation(settings, "test", connections=2) as built:
        yield built


async def test_the_catalogue_and_the_limits_come_from_the_settings(base: Foundation) -> None:
    assert base.catalogue.prices.standard == ("price_s",)
    assert base.decider.limits.partitions == 32
    assert base.decider.limits.destructions_per_day == base.catalogue.kiloclaw.grace.destructions_per_day


async def test_the_test_clock_is_used_only_where_it_is_allowed(database_url: str, amqp_url: str) -> None:
    for is_allowed, kind in ((False, MachineClock), (True, TestClock)):
        chosen = settings_of(database_url, amqp_url, bursar_test_clock=is_allowed)
        async with foundation(chosen, "test", connections=1) as built:
            assert type(built.clock) is kind


async def test_an_unmigrated_database_stops_the_start(settings: Settings, connection: asyncpg.Connection) -> None:
    await connection.execute("DELETE FROM _pogo_migration")
    with pytest.raises(StartError, match="run `bursar migrate` first"):
        async with foundation(settings, "test", connections=1):
            pass


async def test_a_database_is_migrated_at_the_start_where_that_is_asked_for(
    database_url: str, amqp_url: str, connection: asyncpg.Connection
) -> None:
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    async with foundation(settings_of(database_url, amqp_url, bursar_migrate=True), "test", connections=1):
        assert await connection.fetchval("SELECT count(*) FROM accounts") == 0


async def test_ms_12_a_database_that_goes_away_during_the_start_is_waited_for(database_url: str, amqp_url: str) -> None:
    """The first connection asks whether it answers; the second is the pool's."""
    async with proxied(database_url, refused={2}) as (address, proxy):
        async with foundation(settings_of(address, amqp_url), "test", connections=1) as built:
            assert await built.pool.fetchval("SELECT 1") == 1
        assert proxy.carried > 2


async def test_a_wrong_catalogue_stops_the_start(database_url: str, amqp_url: str, tmp_path: Path) -> None:
    (tmp_path / "catalogue.toml").write_text("[kiloclaw]\n")
    wrong = settings_of(database_url, amqp_url, bursar_catalogue=tmp_path / "catalogue.toml")
    with pytest.raises(SettingsError, match=r"kiloclaw\.earlybird"):
        async with foundation(wrong, "test", connections=1):
            pass


async def test_readiness_names_what_is_down(base: Foundation) -> None:
    running, crashed = TaskState("lanes"), TaskState("steps")
    running.starts()
    crashed.starts()
    crashed.crashes(ValueError("ann@example.com"))
    checks = {check.name: check for check in await ProcessReadiness(base.pool, [running, crashed])()}
    assert {name: check.ok for name, check in checks.items()} == {"database": True, "lanes": True, "steps": False}
    assert checks["steps"].detail == "down after 1 crashes: ValueError"


async def test_readiness_is_red_without_the_database(settings: Settings) -> None:
    async with foundation(settings, "test", connections=1) as built:
        await built.pool.close()
        [check] = await ProcessReadiness(built.pool, [])()
    assert (check.name, check.ok) == ("database", False)


async def test_failed_messages_are_measured(base: Foundation) -> None:
    copy = MessageCopy("stripe.invoice.paid", {}, b"{}")
    async with base.pool.acquire() as connection:
        await record_first_failures(
            connection, [FailedMessage("evt_1", None, copy, UnreadableMessage("no id"))], real_now()
        )
    await WaitingGauges(base.decider, base.metrics).measure()
    measured = {state: base.metrics.registry.get_sample_value("bursar_parked", {"state": state}) for state in STATES}
    assert measured == {"retrying": 0, "parked": 1}


@pytest.mark.parametrize(
    ("provider", "needed", "kind"),
    [
        ("none", {}, NoMail),
        ("smtp", {"smtp_host": "mail.example.com"}, SmtpMail),
        ("mailgun", {"mailgun_api_key": "key-1", "mailgun_domain": "mg.example.com"}, Mailgun),
        ("customerio", {"customerio_app_api_key": "key-1"}, Customerio),
    ],
)
async def test_the_provider_of_mails_is_what_the_settings_name(
    provider: str, needed: dict[str, object], kind: type
) -> None:
    settings = settings_of(
        "postgresql://h/d", "amqp://h/", email_provider=provider, email_from="b@example.com", **needed
    )
    async with opened_mail(settings) as gateway:
        assert type(getattr(gateway, "provider", gateway)) is kind
