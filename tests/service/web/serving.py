"""The web app on a real database, with a publisher that remembers."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
import orjson
import stripe
from fastapi import FastAPI

from bursar.billing.errors import Retryable
from bursar.billing.operations import Operation
from bursar.billing.stripe.calls import Call
from bursar.handlers.messages import ReceivedMessage
from bursar.handlers.operations import OPERATIONS
from bursar.service.deciding.decider import Decider
from bursar.service.observability.metrics import Metrics
from bursar.service.settings import Settings
from bursar.service.steps.operations import StripeCalls
from bursar.service.web.app import make_app
from bursar.service.web.dependencies import Publisher, WebDependencies
from bursar.service.web.health import Check
from tests.billing.kiloclaw.making import CATALOGUE, NOW, event_json, subscription_json
from tests.service.web.declared import DeclaredAnswers

SECRET, OLD_SECRET = "whsec_new", "whsec_old"
API, CRON = {"Authorization": "Bearer api-secret"}, {"Authorization": "Bearer cron-secret"}


@dataclass
class FakePublisher:
    """Confirms at once; with `silent` never, with `down` it fails at once."""

    messages: list[ReceivedMessage] = field(default_factory=list)
    ticks: list[tuple[str, datetime]] = field(default_factory=list)
    silent: bool = False
    down: bool = False

    async def publish(self, message: ReceivedMessage) -> None:
        await self._confirm()
        self.messages.append(message)

    async def publish_tick(self, sweep: str, due_at: datetime, traceparent: str | None = None) -> None:
        assert traceparent
        await self._confirm()
        self.ticks.append((sweep, due_at))

    async def _confirm(self) -> None:
        if self.down:
            raise Retryable("the broker is not connected")
        if self.silent:
            await asyncio.Event().wait()


class NoStripe:
    """A gateway for tests in which nothing is asked of Stripe."""

    async def call(self, call: Call, idempotency_key: str) -> Mapping[str, Any]:
        raise AssertionError(f"{call.name} was not expected, under {idempotency_key}")


@dataclass
class Served:
    """The app, what it was made of, and a client without a bearer."""

    app: FastAPI
    declared: DeclaredAnswers
    client: httpx.AsyncClient
    decider: Decider
    publisher: FakePublisher
    metrics: Metrics
    checks: list[Check]

    async def send(self, body: bytes, **headers: str) -> httpx.Response:
        """Post a webhook, signed now with the newest secret unless the headers say otherwise."""
        signed = {"Stripe-Signature": signature(body)} | {
            name.replace("_", "-"): text for name, text in headers.items()
        }
        return await self.client.post("/webhooks/stripe", content=body, headers=signed)

    async def post(self, path: str, body: Mapping[str, Any] | None = None, key: str | None = None) -> httpx.Response:
        """Post a command with the product's bearer."""
        headers = API | ({"Idempotency-Key": key} if key else {})
        return await self.client.post(path, json=dict(body or {}), headers=headers)

    async def put(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        return await self.client.put(path, json=dict(body), headers=API)

    async def get(self, path: str) -> httpx.Response:
        return await self.client.get(path, headers=API)

    def counted(self, answer: str) -> float:
        """How many webhooks ended so."""
        return self.metrics.registry.get_sample_value("bursar_webhooks_total", {"answer": answer}) or 0.0


def settings(**changes: Any) -> Settings:
    return Settings(
        **{
            "database_url": "postgresql://localhost/unused",
            "amqp_url": "amqp://localhost",
            "stripe_secret_key": "sk_test_1",
            "stripe_webhook_secret": f"{SECRET},{OLD_SECRET}",
            "stripe_kiloclaw_standard_price_id": "price_standard",
            "stripe_kiloclaw_commit_price_id": "price_commit",
            "stripe_kiloclaw_earlybird_price_id": "price_earlybird",
            "kiloclaw_api_url": "http://localhost:9",
            "kiloclaw_internal_api_secret": "api-secret",
            "cron_secret": "cron-secret",
            "app_url": "https://app.example.test",
            "email_provider": "none",
            "bursar_test_clock": True,
            **changes,
        }
    )


@asynccontextmanager
async def served(
    decider: Decider,
    publisher: Publisher | None = None,
    stripe_calls: StripeCalls | None = None,
    operations: Mapping[str, Operation[Any]] = OPERATIONS,
    operation_budget_seconds: float = 20.0,
    **changes: Any,
) -> AsyncIterator[Served]:
    """The app behind an in-process client, which compares answers with what is declared; settings may be changed."""
    remembering, metrics, checks = FakePublisher(), Metrics(), [Check("database", ok=True)]

    async def readiness() -> list[Check]:
        return checks

    app = make_app(
        WebDependencies(
            settings=settings(**changes),
            decider=decider,
            publisher=publisher or remembering,
            metrics=metrics,
            catalogue=CATALOGUE,
            readiness=readiness,
            stripe=stripe_calls or NoStripe(),
            operations=operations,
            operation_budget_seconds=operation_budget_seconds,
            asyncapi={
                "info": {"title": "Bursar <messages>", "version": "1"},
                "channels": {"bursar.ticks": {"address": "x"}},
            },
            publish_timeout_seconds=5.0 if publisher else 0.05,
        )
    )
    declared = DeclaredAnswers(app)
    transport = httpx.ASGITransport(declared)
    async with httpx.AsyncClient(transport=transport, base_url="http://bursar.test") as client:
        yield Served(app, declared, client, decider, remembering, metrics, checks)


def signature(body: bytes, secret: str = SECRET, age_seconds: int = 0) -> str:
    timestamp = int(time.time()) - age_seconds
    header: str = stripe.WebhookSignature.generate_signature_header(body.decode(), secret, timestamp)
    return header


def an_event_body(
    event_type: str = "customer.subscription.created", event_id: str = "evt_1", **subscription: Any
) -> bytes:
    return orjson.dumps(event_json(event_type, subscription_json(**subscription), NOW, event_id))
