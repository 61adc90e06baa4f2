"""Around the routes: health, documents, headers, traces, logs, bounds and bugs."""

import re

import httpx
import pytest
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from bursar.service.observability.metrics import Metrics
from bursar.service.web.health import Check, health_app
from bursar.service.web.problems import CODES
from bursar.service.web.requests import RequestScope
from tests.service.web.serving import API, Served, an_event_body


async def test_readiness_is_red_when_one_check_is(web: Served) -> None:
    assert (await web.client.get("/readyz")).json()["ready"]
    web.checks.append(Check("broker", ok=False, detail="not connected"))
    red = await web.client.get("/readyz")

    assert red.status_code == 503
    assert red.json()["checks"][1] == {"name": "broker", "ok": False, "detail": "not connected"}
    assert (await web.client.get("/healthz")).status_code == 200


async def test_metrics_are_exposed(web: Served) -> None:
    await web.send(an_event_body())
    answer = await web.client.get("/metrics")
    assert 'bursar_webhooks_total{answer="accepted"} 1.0' in answer.text


async def test_other_processes_have_the_health_pages_alone() -> None:
    async def nothing_to_check() -> list[Check]:
        return []

    transport = httpx.ASGITransport(health_app(Metrics(), nothing_to_check))
    async with httpx.AsyncClient(transport=transport, base_url="http://worker.test") as client:
        statuses = [
            (await client.get(path)).status_code for path in ("/healthz", "/readyz", "/metrics", "/openapi.json")
        ]
    assert statuses == [200, 200, 200, 404]


async def test_the_openapi_document_lists_every_code_where_it_may_come(web: Served) -> None:
    document = (await web.client.get("/openapi.json")).json()
    listed = {
        (method, path): {
            code
            for response in operation["responses"].values()
            for content in response.get("content", {}).values()
            for code in content["schema"].get("properties", {}).get("code", {}).get("enum", ())
        }
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert {"already_subscribed", "conflict", "busy"} <= listed["post", "/v1/users/{user}/kiloclaw/trial"]
    assert listed["put", "/v1/users/{user}"] >= {"stripe_customer_taken", "unauthorized", "invalid_request"}
    assert "invalid_signature" in listed["post", "/webhooks/stripe"]
    everywhere = {"method_not_allowed", "bad_request", "unavailable"}
    assert set().union(*listed.values()) == set(CODES) - everywhere


async def test_the_trace_of_the_caller_is_continued_and_a_request_has_its_own_id(web: Served) -> None:
    trace = "c" * 32
    given = await web.client.get("/healthz", headers={"traceparent": f"00-{trace}-{'d' * 16}-01"})
    assert given.headers["traceparent"].split("-")[1] == trace
    assert given.headers["x-content-type-options"] == "nosniff"

    made = await web.client.get("/healthz", headers={"traceparent": "nonsense"})
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", made.headers["traceparent"])
    assert made.headers["x-request-id"] != given.headers["x-request-id"]


async def test_ms_14_the_access_log_tells_the_route_and_no_secret(web: Served) -> None:
    with capture_logs() as lines:
        await web.put("/v1/users/ada", {"email": "ada@example.test"})
    [line] = [line for line in lines if line["event"] == "request"]
    assert (line["method"], line["path"], line["status"]) == ("PUT", "/v1/users/{user}", 200)
    assert "api-secret" not in str(lines)
    assert "ada@example.test" not in str(lines)


async def test_a_command_of_more_than_64_kib_is_refused(web: Served) -> None:
    answer = await web.put("/v1/users/ada", {"name": "a" * 70_000})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("content", [b"{broken", b"[]", b"\xff", b""])
async def test_a_body_that_is_no_command_is_refused(web: Served, content: bytes) -> None:
    headers = API | {"Content-Type": "application/json"}
    answer = await web.client.put("/v1/users/ada", content=content, headers=headers)
    assert answer.status_code in {400, 422}
    assert answer.json()["code"] in {"bad_request", "invalid_request"}


@pytest.mark.parametrize("user", ["a%20b", "%00", "a%0Ab", "x" * 201, "%C3%A9"])
async def test_a_user_id_has_a_form(web: Served, user: str) -> None:
    answer = await web.get(f"/v1/users/{user}/kiloclaw/status")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


async def test_an_unknown_path_is_a_problem(web: Served) -> None:
    answer = await web.get("/v1/nothing")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_ms_14_a_bug_is_answered_without_its_trace() -> None:
    async def failing(_: Scope, __: Receive, ___: Send) -> None:
        raise KeyError("ada@example.test")

    transport = httpx.ASGITransport(RequestScope(failing))
    async with httpx.AsyncClient(transport=transport, base_url="http://bursar.test") as client:
        with capture_logs() as lines:
            answer = await client.get("/")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "ada@example.test" not in answer.text
    assert lines[0]["event"] == "request failed"


async def test_the_openapi_document_names_the_idempotency_key_of_every_post(web: Served) -> None:
    paths = (await web.client.get("/openapi.json")).json()["paths"]
    posts = {path: of["post"] for path, of in paths.items() if "post" in of and path.startswith("/v1/")}

    assert posts
    for path, post in posts.items():
        assert "Idempotency-Key" in [one["name"] for one in post["parameters"]], path
