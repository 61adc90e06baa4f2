"""The settings of every process, read from the environment. A wrong or missing value stops the start with its name."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from bursar.billing.catalogue import Catalogue, Prices
from bursar.billing.errors import BursarError
from bursar.db.batches import BATCHES_AT_ONCE, MAX_ITEMS
from bursar.service.gateways.mail import sender_domain

CHECKOUT = Path(__file__).parents[2]
DEFAULT_CATALOGUE = CHECKOUT / "deploy" / "catalogue.toml"
EMAIL_PROVIDERS_NEED = {
    "smtp": ("smtp_host", "email_from"),
    "mailgun": ("mailgun_api_key", "mailgun_domain", "email_from"),
    "customerio": ("customerio_app_api_key", "email_from"),
    "none": (),
}

AnySettings = TypeVar("AnySettings", bound=BaseSettings)


class SettingsError(BursarError):
    """A setting is wrong or missing: one sentence that names the variable and never its value."""


def _split(value: object) -> object:
    return [one for part in value.split(",") if (one := part.strip())] if isinstance(value, str) else value


def _postgres_address(url: str) -> str:
    if not url.startswith(("postgresql://", "postgres://")):
        raise ValueError("must begin with postgresql://")
    return url


def _amqp_address(url: str) -> str:
    if not url.startswith(("amqp://", "amqps://")):
        raise ValueError("must begin with amqp:// or amqps://")
    return url


def _http_address(url: str) -> str:
    if not url.startswith(("https://", "http://")):
        raise ValueError("must begin with https:// or http://")
    return url.rstrip("/")


def _stripe_key(key: SecretStr) -> SecretStr:
    if not key.get_secret_value().startswith(("sk_", "rk_")):
        raise ValueError("must be a secret key (sk_...) or a restricted key (rk_...)")
    return key


def _sender(header: str) -> str:
    try:
        sender_domain(header)
    except ValueError:
        raise ValueError("must hold an address of the form local@domain") from None
    return header


def _header_secret(secret: SecretStr) -> SecretStr:
    if not all("!" <= character <= "~" for character in secret.get_secret_value()):
        raise ValueError("must be of ASCII characters without spaces")
    return secret


PriceIds = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), Field(min_length=1)]
Secrets = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split), Field(min_length=1)]
Secret = Annotated[SecretStr, Field(min_length=1)]
HeaderSecret = Annotated[SecretStr, AfterValidator(_header_secret)]
HttpAddress = Annotated[str, AfterValidator(_http_address)]
Port = Annotated[int, Field(ge=0, le=65535)]
FROM_THE_ENVIRONMENT = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True)


class DatabaseSettings(BaseSettings):
    """What a command needs that only asks the database."""

    model_config = FROM_THE_ENVIRONMENT

    database_url: Annotated[str, AfterValidator(_postgres_address)] = Field(
        repr=False, description="PostgreSQL, 15 or later: `postgresql://user:password@host:port/database`."
    )


class BrokerSettings(DatabaseSettings):
    """What a command needs that publishes, too."""

    amqp_url: Annotated[str, AfterValidator(_amqp_address)] = Field(
        repr=False, description="RabbitMQ, 3.10 or later: `amqp://user:password@host:port/vhost`."
    )
    bursar_partitions: int = Field(
        32, ge=1, le=256, description="Into how many partitions accounts are spread; fixed once the database is in use."
    )
    bursar_test_clock: bool = Field(
        default=False, description="Allow the test clock (`PUT /v1/ops/clock`); refused with a live Stripe key."
    )


class MailSettings(BaseSettings):
    """What a command needs that only sends a mail. Each provider needs some of them: `EMAIL_PROVIDERS_NEED`."""

    model_config = FROM_THE_ENVIRONMENT

    app_url: HttpAddress = Field(description="The product's address: mails link to it.")
    email_provider: Literal["smtp", "mailgun", "customerio", "none"] = Field(
        description="How mails are sent: `smtp`, `mailgun`, `customerio`; with `none` they are noted as skipped and "
        "sent once a provider is configured."
    )
    email_from: Annotated[str, AfterValidator(_sender)] | None = Field(
        None, description="The From header, e.g. `Bursar <billing@example.com>`; needed with every provider."
    )
    smtp_host: str | None = Field(None, description="The mail server; needed with `smtp`.")
    smtp_port: Port = Field(587, description="Its port.")
    smtp_username: str | None = Field(None, repr=False, description="Its user; empty for none.")
    smtp_password: SecretStr | None = Field(None, description="Its password.")
    smtp_starttls: bool = Field(default=True, description="Require TLS by STARTTLS.")
    mailgun_api_key: HeaderSecret | None = Field(None, description="Mailgun's sending key; needed with `mailgun`.")
    mailgun_domain: str | None = Field(None, description="The sending domain at Mailgun; needed with `mailgun`.")
    mailgun_api_base: HttpAddress = Field(
        "https://api.mailgun.net", description="Where Mailgun's API answers; `https://api.eu.mailgun.net` in the EU."
    )
    customerio_app_api_key: HeaderSecret | None = Field(
        None, description="Customer.io's App API key; needed with `customerio`."
    )
    customerio_api_base: HttpAddress = Field(
        "https://api.customer.io", description="Where its App API answers; `https://api-eu.customer.io` in the EU."
    )

    @model_validator(mode="after")
    def _the_provider_is_whole(self) -> Self:
        for name in EMAIL_PROVIDERS_NEED[self.email_provider]:
            if getattr(self, name) is None:
                raise ValueError(f"{name.upper()} is missing: EMAIL_PROVIDER={self.email_provider} needs it")
        return self


class Settings(MailSettings, BrokerSettings):
    """One field per variable, named like it in lower case. An empty value counts as missing."""

    stripe_secret_key: Annotated[SecretStr, AfterValidator(_stripe_key)] = Field(
        description="Stripe's secret or restricted key."
    )
    stripe_api_base: HttpAddress = Field("https://api.stripe.com", description="Where Stripe's API answers.")
    stripe_requests_per_second: int = Field(
        20,
        ge=1,
        le=100,
        description="How many requests a second this process makes to Stripe, at most. All processes share Stripe's "
        "limit: 100 a second live, 25 in a sandbox.",
    )
    stripe_webhook_secret: Secrets = Field(
        description="Signing secret of the webhook endpoint; several, comma-separated, while rotating."
    )
    stripe_kiloclaw_standard_price_id: PriceIds = Field(
        description="Price ids of the standard plan, comma-separated: the first is sold, all are recognised."
    )
    stripe_kiloclaw_commit_price_id: PriceIds = Field(description="Price ids of the commit plan, likewise.")
    stripe_kiloclaw_earlybird_price_id: PriceIds = Field(description="Price ids of the one-time purchase, likewise.")
    stripe_kiloclaw_earlybird_coupon_id: str | None = Field(
        None, description="The coupon that earlybird users get on the standard plan; empty for none."
    )
    stripe_kiloclaw_billing_start: AwareDatetime | None = Field(
        None,
        description="Checkouts before this instant start billing then, e.g. `2026-10-01T00:00:00Z`; empty for at once.",
    )

    kiloclaw_api_url: HttpAddress = Field(description="Where the instance API answers.")
    kiloclaw_internal_api_secret: Secret = Field(
        description="The bearer for our calls to the instance API, and the bearer that our own `/v1` asks for."
    )
    cron_secret: Secret = Field(description="The bearer for ticks over HTTP.")

    bursar_web_host: str = Field(
        "127.0.0.1", description="The address on which the web and the health pages listen; `0.0.0.0` in a container."
    )
    bursar_web_port: Port = Field(8080, description="The web's port; 0 takes a free one, which the log names.")
    bursar_health_port: Port = Field(
        8081, description="Port of the health pages of worker and scheduler; 0 takes a free one."
    )
    bursar_catalogue: Path = Field(DEFAULT_CATALOGUE, description="The catalogue: the numbers of the business.")
    bursar_migrate: bool = Field(default=False, description="Migrate the database when a process starts.")
    bursar_drain_seconds: float = Field(
        20.0, gt=0, le=300, description="How long running work may take to finish after a stop signal."
    )
    bursar_max_batch: int = Field(
        MAX_ITEMS, ge=1, le=MAX_ITEMS, description="How many messages a worker decides in one transaction, at most."
    )
    bursar_batches_at_once: int = Field(
        BATCHES_AT_ONCE, ge=1, le=8, description="How many such transactions of a worker run at once, at most."
    )
    bursar_reconcile_repairs: int = Field(
        0,
        ge=0,
        le=10_000,
        description="How many differences a reconciliation has repaired, by reading Stripe again; 0: it only reports.",
    )
    bursar_log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least severe log lines that are written."
    )
    bursar_log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto` writes for people on a terminal, and JSON elsewhere."
    )

    @model_validator(mode="after")
    def _no_test_clock_on_live_money(self) -> Self:
        if self.bursar_test_clock and self.stripe_secret_key.get_secret_value().startswith(("sk_live_", "rk_live_")):
            raise ValueError("BURSAR_TEST_CLOCK is refused together with a live STRIPE_SECRET_KEY")
        return self

    @model_validator(mode="after")
    def _a_price_has_one_plan(self) -> Self:
        if set(self.stripe_kiloclaw_standard_price_id) & set(self.stripe_kiloclaw_commit_price_id):
            raise ValueError("STRIPE_KILOCLAW_STANDARD_PRICE_ID and STRIPE_KILOCLAW_COMMIT_PRICE_ID share a price id")
        return self

    @property
    def prices(self) -> Prices:
        """The prices of the plans, for the catalogue."""
        return Prices(
            standard=self.stripe_kiloclaw_standard_price_id,
            commit=self.stripe_kiloclaw_commit_price_id,
            earlybird_coupon_id=self.stripe_kiloclaw_earlybird_coupon_id,
            billing_starts_at=self.stripe_kiloclaw_billing_start,
        )


def load_settings(kind: type[AnySettings]) -> AnySettings:
    """The settings from the environment. Raises `SettingsError`, which names every wrong variable and no value."""
    try:
        return kind()
    except ValidationError as errors:
        faults = dict.fromkeys(_fault(one) for one in errors.errors(include_input=False, include_url=False))
        raise SettingsError("; ".join(faults) + ".") from None


def load_catalogue(path: Path, prices: Prices) -> Catalogue:
    """The catalogue from its TOML file. Raises `SettingsError`, which names the wrong key."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"BURSAR_CATALOGUE names a file that cannot be read ({error.strerror}).") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"BURSAR_CATALOGUE names a file that is not TOML ({error}).") from None
    if "prices" in content:
        raise SettingsError("BURSAR_CATALOGUE: prices come from the environment, not from the file.")
    try:
        return Catalogue.model_validate({**content, "prices": prices})
    except ValidationError as errors:
        faults = (f"{_key(one)}: {one['msg']}" for one in errors.errors(include_input=False, include_url=False))
        raise SettingsError(f"BURSAR_CATALOGUE: {'; '.join(faults)}.") from None


def _fault(error: ErrorDetails) -> str:
    message = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:
        return message  # a rule about several variables names them itself
    name = str(error["loc"][0]).upper()
    if error["type"] in {"missing", "too_short"}:
        return f"{name} is missing"
    return f"{name} {message.removeprefix('Input ')}"


def _key(error: ErrorDetails) -> str:
    return ".".join(str(part) for part in error["loc"])
