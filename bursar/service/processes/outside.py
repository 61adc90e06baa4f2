"""The gateways of a process that carries steps out, from its settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bursar.service.gateways.instances import InstancesGateway, instances_client
from bursar.service.gateways.mail import MailGateway, NoMail
from bursar.service.gateways.smtp import SmtpMail, SmtpSettings
from bursar.service.gateways.stripe import StripeGateway
from bursar.service.settings import Settings
from bursar.service.steps.runner import Outside


@asynccontextmanager
async def opened_outside(settings: Settings) -> AsyncIterator[Outside]:
    """Whom the steps call, with connections that are closed in the end."""
    key = settings.stripe_secret_key.get_secret_value()
    secret = settings.kiloclaw_internal_api_secret.get_secret_value()
    async with StripeGateway(key, api_base=settings.stripe_api_base) as stripe, instances_client() as client:
        instances = InstancesGateway(settings.kiloclaw_api_url, secret, client=client)
        yield Outside(stripe, instances, mail_gateway(settings), settings.app_url)


def mail_gateway(settings: Settings) -> MailGateway:
    """The provider that `EMAIL_PROVIDER` names."""
    if settings.email_provider == "none":
        return NoMail()
    assert settings.smtp_host, "the settings see to it"
    assert settings.email_from, "likewise"
    password = settings.smtp_password
    return SmtpMail(
        SmtpSettings(
            host=settings.smtp_host,
            port=settings.smtp_port,
            sender=settings.email_from,
            username=settings.smtp_username,
            password=password.get_secret_value() if password else None,
            starttls=settings.smtp_starttls,
        )
    )
