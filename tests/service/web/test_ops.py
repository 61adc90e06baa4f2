"""The test clock, parked messages and figures."""

from datetime import UTC, datetime
from typing import Any

import pytest

from bursar.db.clock import TestClock
from bursar.service.deciding.decider import Decider
from tests.service.web.serving import API, Served, served

THEN = datetime(2027, 1, 1, tzinfo=UTC)


async def test_the_test_clock_stands_until_it_is_released(decider: Decider) -> None:
    shared = Decider(decider.pool, TestClock(), decider.limits)
    async with served(shared) as web:
        stood = await web.put("/v1/ops/clock", {"now": THEN.isoformat()})
        assert (stood.status_code, stood.json()) == (200, {"now": THEN.isoformat().replace("+00:00", "Z")})
        trial = (await web.post("/v1/users/ada/kiloclaw/trial")).json()
        assert trial["trial_ends_at"] == datetime(2027, 1, 31, tzinfo=UTC).isoformat()

        assert (await web.client.delete("/v1/ops/clock", headers=API)).status_code == 200
        later = (await web.post("/v1/users/grace/kiloclaw/trial")).json()
        assert later["trial_ends_at"] != trial["trial_ends_at"]


async def test_without_the_setting_there_is_no_test_clock(decider: Decider) -> None:
    async with served(decider, bursar_test_clock=False) as web:
        answers = [
            await web.put("/v1/ops/clock", {"now": THEN.isoformat()}),
            await web.client.delete("/v1/ops/clock", headers=API),
        ]
        async with decider.pool.acquire() as connection:
            assert await connection.fetchval("SELECT count(*) FROM business_clock") == 0
    assert [answer.status_code for answer in answers] == [404, 404]


async def test_ms_7_parked_messages_are_listed_and_shown(web: Served) -> None:
    for body in (b"{one", b"{two", b"{three"):
        await web.send(body)

    first = (await web.get("/v1/ops/parked?state=parked&limit=2")).json()
    rest = (await web.get(f"/v1/ops/parked?limit=2&cursor={first['next_cursor']}")).json()
    assert [len(first["messages"]), len(rest["messages"]), rest["next_cursor"]] == [2, 1, None]
    assert (await web.get("/v1/ops/parked?state=discarded")).json()["messages"] == []

    shown = (await web.get(f"/v1/ops/parked/{rest['messages'][0]['id']}")).json()
    assert (shown["state"], shown["attempts"], shown["body_bytes"]) == ("parked", 1, 4)
    assert shown["headers"]["traceparent"].startswith("00-")
    assert (await web.get("/v1/ops/parked/999")).json()["code"] == "not_found"


async def test_figures_count_what_waits_and_how_the_rows_stand(web: Served) -> None:
    await web.post("/v1/users/ada/kiloclaw/trial")
    await web.send(b"{broken")
    figures: dict[str, Any] = (await web.get("/v1/ops/figures")).json()

    assert figures["inbox"] == 1
    assert figures["parked"] == {"parked": 1}
    assert figures["subscriptions"] == [{"plan": "trial", "status": "trialing", "rows": 1, "suspended": 0}]
    assert figures["steps"] == {"due_now": 0, "due_later": 0, "skipped": 0, "failed": 0}
    assert figures["instances_not_brought_about"] == {"due_now": 0, "due_later": 0}


@pytest.mark.parametrize("path", ["/v1/ops/figures", "/v1/ops/parked", "/v1/users/ada/history"])
@pytest.mark.parametrize(
    "bearer", [None, "Bearer wrong", "Bearer cron-secret", "Basic api-secret", "Bearer é", "Bearer"]
)
async def test_every_page_asks_for_the_products_bearer(web: Served, path: str, bearer: str | None) -> None:
    headers = {} if bearer is None else {b"Authorization": bearer.encode("latin-1")}
    answer = await web.client.get(path, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
