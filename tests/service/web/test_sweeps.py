"""Dry runs over HTTP (KC-79)."""

from typing import Any

from tests.billing.kiloclaw.making import DAY, NOW
from tests.db.deciding import StandingClock
from tests.service.web.serving import API, CRON, Served


async def dry_run(web: Served, sweep: str, query: str = "dry_run=1") -> Any:
    return await web.client.post(f"/v1/ops/sweeps/{sweep}?{query}", headers=API)


async def test_kc_79_a_dry_run_lists_what_would_happen_page_by_page(web: Served, clock: StandingClock) -> None:
    for user in ("ada", "grace"):
        await web.post(f"/v1/users/{user}/kiloclaw/trial")
    clock.now = NOW + 31 * DAY
    first = (await dry_run(web, "hourly", "dry_run=1&limit=1")).json()
    rest = (await dry_run(web, "hourly", f"dry_run=1&cursor={first['next_cursor']}")).json()

    assert [effect["kind"] for effect in first["effects"]] == ["suspension", "mail"]
    assert {effect["account_key"] for effect in first["effects"] + rest["effects"]} == {"user:ada", "user:grace"}
    assert rest["next_cursor"] is None
    assert not web.publisher.ticks
    status = (await web.get("/v1/users/ada/history")).json()
    assert [entry["reason"] for entry in status["entries"]] == ["trial started"]


async def test_what_cannot_be_run_dry_is_told(web: Served) -> None:
    assert (await dry_run(web, "midnight")).json()["code"] == "unknown_sweep"
    for query in ("", "dry_run=0", "dry_run=1&cursor=x", "dry_run=1&limit=0"):
        answer = await dry_run(web, "hourly", query)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


async def test_a_dry_run_asks_for_the_products_bearer(web: Served) -> None:
    answer = await web.client.post("/v1/ops/sweeps/hourly?dry_run=1", headers=CRON)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
