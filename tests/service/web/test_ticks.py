"""Ticks over HTTP: identified by sweep and instant (MS-8), counted (KC-80), behind a bearer of their own."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from bursar.db.ticks import begin_partition, mark_expanded
from tests.billing.kiloclaw.making import NOW
from tests.service.web.serving import API, CRON, Served

DUE = datetime(2026, 6, 1, 8, tzinfo=UTC)


async def post_tick(web: Served, sweep: str, body: dict[str, Any] | None = None) -> httpx.Response:
    return await web.client.post(f"/v1/ticks/{sweep}", json=body, headers=CRON)


async def test_ms_8_a_tick_is_its_sweep_and_its_instant(web: Served) -> None:
    body = {"due_at": DUE.isoformat()}
    first, again = [await post_tick(web, "hourly", body) for _ in range(2)]
    other = await post_tick(web, "hourly", {"due_at": (DUE + timedelta(hours=1)).isoformat()})
    single = await post_tick(web, "trial_expiry", body)

    assert [first.status_code, again.status_code] == [202, 202]
    assert first.json() == again.json()
    assert len({answer.json()["id"] for answer in (first, other, single)}) == 3
    assert web.publisher.ticks[0] == ("hourly", DUE)


async def test_ms_8_a_tick_without_an_instant_is_due_at_business_time(web: Served) -> None:
    assert (await web.client.post("/v1/ticks/hourly", headers=CRON)).status_code == 202
    assert (await post_tick(web, "hourly", {})).status_code == 202
    assert web.publisher.ticks == [("hourly", NOW), ("hourly", NOW)]


async def test_ms_8_a_tick_that_the_broker_does_not_confirm_is_asked_for_again(web: Served) -> None:
    web.publisher.silent = True
    answer = await post_tick(web, "hourly")
    assert (answer.status_code, answer.json()["code"]) == (503, "broker_unavailable")


async def test_an_unknown_sweep_is_told(web: Served) -> None:
    answer = await post_tick(web, "midnight")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_sweep")
    assert "hourly" in answer.json()["detail"]


async def test_an_instant_needs_its_zone(web: Served) -> None:
    answer = await post_tick(web, "hourly", {"due_at": "2026-06-01T08:00:00"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


async def test_kc_80_a_tick_tells_its_state_and_counts(web: Served) -> None:
    tick_id = (await post_tick(web, "trial_expiry", {"due_at": DUE.isoformat()})).json()["id"]
    path = f"/v1/ticks/{tick_id}"
    assert (await web.client.get(path, headers=CRON)).json()["state"] == "running"

    async with web.decider.pool.acquire() as connection:
        await begin_partition(connection, tick_id, 0, NOW, NOW)
        await mark_expanded(connection, tick_id, 1, NOW)
        await connection.execute(
            "UPDATE tick_partitions SET state = 'done', finished_at = $1, counts = $2",
            NOW,
            {"trial_expiry": {"found": 3, "changed": 2}},
        )
    done = (await web.client.get(path, headers=CRON)).json()
    assert (done["state"], done["sweep"]) == ("done", "trial_expiry")
    assert done["counts"] == {"trial_expiry": {"found": 3, "changed": 2}}


async def test_an_unknown_tick_is_told(web: Served) -> None:
    assert (await web.client.get("/v1/ticks/77", headers=CRON)).json()["code"] == "not_found"


async def test_ticks_ask_for_the_schedulers_bearer(web: Served) -> None:
    for headers in (API, {}):
        answer = await web.client.post("/v1/ticks/hourly", headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert not web.publisher.ticks
