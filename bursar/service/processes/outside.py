"""The gateways of a process that carries steps out, from its settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from bursar.service.gateways.customerio import Customerio
from bursar.service.gateways.http_mail import HttpMail, mail_client
from bursar.service.gateways.instances import InstancesGateway, instances_client
from bursar.service.gateways.mail import MailGateway, NoMail
from bursar.service.gateways.mailgun import Mailgun
from bursar.service.gateways.smtp import SmtpMail, SmtpSettings
from bursar.service.gateways.stripe import Priority, RateBudget, StripeGateway
from bursar.service.observability.metrics import Metrics
from bursar.service.settings import MailSettings, Settings
from bursar.service.steps.runner import Outside


@asynccontextmanager
async def opened_outside(settings: Settings, metrics: Metrics) -> AsyncIterator[Outside]:
    """Whom the steps call, with connections that are closed in the end."""
    secret = settings.kiloclaw_internal_api_secret.get_secret_value()
    async with (
        opened_stripe(settings, metrics) as stripe,
        instances_client() as client,
        opened_mail(settings) as mail,
    ):
        instances = InstancesGateway(settings.kiloclaw_api_url, secret, client=client)
        yield Outside(
            stripe=stripe.at(Priority.READ),
            payments=stripe.at(Priority.PAYMENT),
            instances=instances,
            mail=mail,
            app_url=settings.app_url,
            checks=stripe.at(Priority.SWEEP),
        )


def opened_stripe(settings: Settings, metrics: Metrics) -> StripeGateway:
    """Stripe, within this process's rate budget; an async context that closes its connections. One per process."""
    return StripeGateway(
        settings.stripe_secret_key.get_secret_value(),
        api_base=settings.stripe_api_base,
        budget=RateBudget(settings.stripe_requests_per_second),
        metrics=metrics,
    )


@asynccontextmanager
async def opened_mail(settings: MailSettings) -> AsyncIterator[MailGateway]:
    """The provider that `EMAIL_PROVIDER` names, with connections that are closed in the end."""
    async with mail_client() as client:
        yield _mail_gateway(settings, client)


def _mail_gateway(settings: MailSettings, client: httpx.AsyncClient) -> MailGateway:
    match settings.email_provider:
        case "none":
            return NoMail()
        case "smtp":
            return SmtpMail(_smtp(settings))
        case "mailgun":
            return HttpMail(_mailgun(settings), client=client)
        case "customerio":
            return HttpMail(_customerio(settings), client=client)


def _smtp(settings: MailSettings) -> SmtpSettings:
    assert settings.smtp_host, "the settings see to it"
    assert settings.email_from, "likewise"
    password = settings.smtp_password
    return SmtpSettings(
        host=settings.smtp_host,
        port=settings.smtp_port,
        sender=settings.email_from,
        username=settings.smtp_username,
        password=password.get_secret_value() if password else None,
        starttls=settings.smtp_starttls,
    )


def _mailgun(settings: MailSettings) -> Mailgun:
    assert settings.mailgun_api_key, "the settings see to it"
    assert settings.mailgun_domain, "likewise"
    assert settings.email_from, "likewise"
    return Mailgun(
        settings.mailgun_api_base,
        settings.mailgun_domain,
        settings.email_from,
        settings.mailgun_api_key.get_secret_value(),
    )


def _customerio(settings: MailSettings) -> Customerio:
    assert settings.customerio_app_api_key, "the settings see to it"
    assert settings.email_from, "likewise"
    return Customerio(
        settings.customerio_api_base, settings.email_from, settings.customerio_app_api_key.get_secret_value()
    )
