"""What `/openapi.json` says of the answers: of every route, and the same as the app sends.

Each answer of every test on the served app is compared with it (declared.py). Here: that nothing is left out.
"""

from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI, Response

from bursar.db import renewal_failures
from bursar.db.renewal_failures import FailedRenewal
from tests.billing.kiloclaw.making import NOW
from tests.db.deciding import REAL_NOW
from tests.service.crediting import giving
from tests.service.parking import park_subscription
from tests.service.web.declared import DeclaredAnswers, examples_of, mismatch, strict
from tests.service.web.serving import API, CRON, Served
from tests.service.web.test_kiloclaw_at_stripe import Selling, selling

__all__ = ["selling"]  # the fixture

Asked = tuple[tuple[str, str, dict[str, Any] | None], ...]

DONE = ("200", "202")
SIGNED = API | {"X-Actor": "olga"}
REASON = {"reason": "looked at"}
BY_CREDITS = {"instance_id": "inst-bob"}
RETURN = {"return_url": "https://app.example.test/claw"}

AT_STRIPE: Asked = (
    ("POST", "switch-plan", {"plan": "commit"}),
    ("POST", "cancel-plan-switch", {}),
    ("POST", "cancel", {}),
    ("POST", "reactivate", {}),
    ("POST", "billing-portal", RETURN),
    ("GET", "status", None),
    ("GET", "access", None),
)
OF_BOB: Asked = (
    ("PUT", "", {"email": "bob@example.test"}),
    ("POST", "/kiloclaw/trial", {}),
    ("POST", "/kiloclaw/provision", BY_CREDITS),
    ("POST", "/kiloclaw/earlybird", {"payment_id": "pi_earlybird"}),
    ("PUT", "/credits/auto-top-up", {"enabled": True}),
    ("POST", "/credits/checkout", {}),
    ("POST", "/kiloclaw/enroll", {"plan": "commit", **BY_CREDITS}),
    ("POST", "/kiloclaw/renew-commit", {}),
    ("GET", "/credits", None),
    ("GET", "/credits/transactions", None),
    ("GET", "/kiloclaw/status", None),
    ("GET", "/history", None),
    ("DELETE", "/kiloclaw/instances/inst-bob", None),
    ("POST", "/kiloclaw/cancel", {}),
    ("DELETE", "", None),
)
PAGES = ("/healthz", "/readyz", "/metrics", "/docs", "/asyncapi", "/asyncapi.json")


async def test_every_route_is_asked_and_answers_as_declared(
    selling: Selling, connection: asyncpg.Connection, database_url: str
) -> None:
    web = selling.web
    await selling.subscribe()
    for method, path, body in AT_STRIPE:
        await done(web, method, f"/v1/users/ada/kiloclaw/{path}", body)
    await web.decider.decide([giving(200, "bob")])
    for method, path, body in OF_BOB:
        await done(web, method, f"/v1/users/bob{path}", body)
    await operate(web, connection, database_url)
    for page in PAGES:
        await done(web, "GET", page)

    document = web.app.openapi()
    routes = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert routes == {(method, path) for method, path, status in web.declared.seen if str(status) in DONE}


async def operate(web: Served, connection: asyncpg.Connection, database_url: str) -> None:
    """Whatever operators and schedulers ask for."""
    for event_id, action in (("evt_1", "replay?dry_run=1"), ("evt_2", "replay"), ("evt_3", "discard")):
        parked_id = await park_subscription(database_url, event_id, f"user-{event_id}")
        await done(web, "POST", f"/v1/ops/parked/{parked_id}/{action}", REASON)
        await done(web, "GET", f"/v1/ops/parked/{parked_id}")
    await renewal_failures.record(connection, [FailedRenewal("user:ada", NOW, 3, REAL_NOW, "bug", "Boom")])
    failure_id = await connection.fetchval("SELECT id FROM renewal_failures")
    for action in ("retry", "resolve", "waive"):
        await done(web, "POST", f"/v1/ops/failures/{failure_id}/{action}", REASON)
    await done(web, "GET", f"/v1/ops/failures/{failure_id}")
    for path in ("parked", "failures", "figures"):
        await done(web, "GET", f"/v1/ops/{path}")
    await done(web, "POST", "/v1/ops/sweeps/hourly?dry_run=1")
    tick = await done(web, "POST", "/v1/ticks/hourly", headers=CRON)
    await done(web, "GET", f"/v1/ticks/{tick['id']}", headers=CRON)
    await done(web, "PUT", "/v1/ops/clock", {"now": NOW.isoformat()})
    await done(web, "DELETE", "/v1/ops/clock")


async def done(
    web: Served, method: str, path: str, body: dict[str, Any] | None = None, headers: dict[str, str] = SIGNED
) -> Any:
    answer = await web.client.request(method, path, json=body, headers=headers)
    assert str(answer.status_code) in DONE, f"{method} {path}: {answer.text}"
    return answer.json() if answer.headers["content-type"] == "application/json" else None


async def test_no_route_is_without_a_declared_answer(web: Served) -> None:
    assert undeclared(web.app.openapi()) == []


async def test_a_route_that_returns_any_mapping_counts_as_undeclared(web: Served) -> None:
    @web.app.get("/v1/anything")
    async def _() -> dict[str, Any]:
        return {"a": 1}

    @web.app.get("/v1/nothing", response_model=None)
    async def _() -> Any:
        return {}

    assert undeclared(web.app.openapi()) == ["GET /v1/anything", "GET /v1/nothing"]


def undeclared(document: dict[str, Any]) -> list[str]:
    """The routes of which nothing says what comes back when all is well."""
    return [
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if not any(_says_something(document, operation["responses"].get(status, {})) for status in DONE)
    ]


def _says_something(document: dict[str, Any], response: dict[str, Any]) -> bool:
    schemas = [content["schema"] for content in response.get("content", {}).values()]
    named = [document["components"]["schemas"].get(one.get("$ref", "").rpartition("/")[2], one) for one in schemas]
    return any("properties" in one or one.get("type") == "string" or "description" in one for one in named)


async def test_every_example_is_an_answer_as_declared(web: Served) -> None:
    document = web.app.openapi()
    examples = list(examples_of(document))
    assert len(examples) > 20
    for name, schema, example in examples:
        assert not list(strict(document, schema).iter_errors(example)), name


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        (b'{"auto_top_up":true}', None),
        (b'{"auto_top_up":null}', "auto_top_up"),
        (b"{}", "auto_top_up"),
        (b'{"auto_top_up":true,"more":1}', "more"),
    ],
)
async def test_a_field_more_or_less_is_not_as_declared(web: Served, body: bytes, wrong: str | None) -> None:
    path = "/v1/users/{user}/credits/auto-top-up"
    found = mismatch(web.app.openapi(), "PUT", path, 200, "application/json", body)
    assert (found is None) == (wrong is None)
    assert wrong is None or wrong in str(found)


async def test_an_answer_otherwise_than_declared_fails_its_test(web: Served) -> None:
    assert (await web.client.get("/asyncapi.json")).status_code == 200
    app = FastAPI()

    @app.get("/asyncapi.json", response_class=Response)
    async def _() -> Response:
        return Response("[]", media_type="application/json")

    async with httpx.AsyncClient(transport=httpx.ASGITransport(DeclaredAnswers(app)), base_url="http://x.test") as one:
        with pytest.raises(AssertionError, match=r"otherwise than declared: the whole"):
            await one.get("/asyncapi.json")
