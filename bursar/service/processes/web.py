"""`bursar web`: the relay of Stripe's webhooks and the API."""

import asyncio

from bursar.service.broker.asyncapi import asyncapi_document
from bursar.service.broker.publisher import open_publisher
from bursar.service.gateways.stripe import Priority
from bursar.service.processes.foundation import foundation
from bursar.service.processes.lifetime import Part, run_parts
from bursar.service.processes.outside import opened_stripe
from bursar.service.processes.publishing import PublisherKeeper
from bursar.service.processes.readiness import ProcessReadiness
from bursar.service.processes.serving import HttpServer
from bursar.service.settings import Settings
from bursar.service.web.app import make_app
from bursar.service.web.dependencies import WebDependencies

CONNECTIONS = 16  # to the database; a request beyond waits for one


async def run_web(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop`. The publisher outlives the requests that are finished then."""
    async with (
        foundation(settings, "web", connections=CONNECTIONS) as base,
        open_publisher(settings.amqp_url, settings.bursar_partitions) as publisher,
        opened_stripe(settings, base.metrics) as stripe,
    ):
        keeper = PublisherKeeper(publisher)
        app = make_app(
            WebDependencies(
                settings=settings,
                decider=base.decider,
                publisher=publisher,
                metrics=base.metrics,
                catalogue=base.catalogue,
                readiness=ProcessReadiness(base.pool, [], [keeper.check]),
                stripe=stripe.at(Priority.PAYMENT),
                asyncapi=asyncapi_document(),
            )
        )
        server = HttpServer(
            app,
            settings.bursar_web_host,
            settings.bursar_web_port,
            drain_seconds=settings.bursar_drain_seconds,
            port_variable="BURSAR_WEB_PORT",
        )
        parts = [Part.of("web", server.run), Part.of("publisher", keeper.run)]
        await run_parts(parts, stop, settings.bursar_drain_seconds)
