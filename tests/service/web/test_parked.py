"""Replays and discards over HTTP (MS-7)."""

from typing import Any

import asyncpg
import httpx
import pytest

from tests.service.parking import park_subscription, rows
from tests.service.web.serving import API, Served

REASON = {"reason": "the price is known now"}


async def act(web: Served, path: str, body: dict[str, Any] | None = None, **headers: str) -> httpx.Response:
    sent = API | {"X-Actor": "olga"} | {name.replace("_", "-"): text for name, text in headers.items()}
    return await web.client.post(f"/v1/ops/parked/{path}", json=REASON if body is None else body, headers=sent)


async def test_ms_7_a_dry_run_answers_the_prediction_and_a_replay_what_it_did(
    database_url: str, connection: asyncpg.Connection, web: Served
) -> None:
    parked_id = await park_subscription(database_url, "evt_1")
    before = await rows(connection)
    foretold = (await act(web, f"{parked_id}/replay?dry_run=1")).json()
    assert await rows(connection) == before
    assert (foretold["id"], foretold["dry_run"], foretold["outcome"]) == (parked_id, True, "applied")
    assert foretold["changes"][0]["after"]["status"] == "active"

    done = await act(web, f"{parked_id}/replay")
    assert (done.status_code, done.json()) == (
        200,
        {"id": parked_id, "dry_run": False, "outcome": "applied", "error": None},
    )
    shown = (await web.get(f"/v1/ops/parked/{parked_id}")).json()
    assert (shown["state"], [action["actor"] for action in shown["actions"]]) == ("replayed", ["olga"])
    assert (await act(web, f"{parked_id}/replay")).json()["code"] == "not_parked"


async def test_ms_7_a_dry_run_and_the_replay_under_one_idempotency_key_are_two_requests(
    database_url: str, web: Served
) -> None:
    parked_id = await park_subscription(database_url, "evt_1")
    paths = [f"{parked_id}/replay?dry_run=1", f"{parked_id}/replay", f"{parked_id}/replay"]
    answers = [(await act(web, path, Idempotency_Key="k")).json() for path in paths]
    assert [answer["dry_run"] for answer in answers] == [True, False, False]


async def test_ms_7_a_discarded_message_is_not_replayed(database_url: str, web: Served) -> None:
    parked_id = await park_subscription(database_url, "evt_1")
    discarded = await act(web, f"{parked_id}/discard")
    assert (discarded.status_code, discarded.json()) == (200, {"id": parked_id, "state": "discarded"})
    for path in (f"{parked_id}/replay", f"{parked_id}/replay?dry_run=1", f"{parked_id}/discard"):
        again = await act(web, path)
        assert (again.status_code, again.json()["code"]) == (409, "not_parked")
    for path in ("4711/replay", "4711/discard"):
        assert (await act(web, path)).status_code == 404


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({}, {}),
        ({"reason": "  "}, {}),
        ({"reason": "two\nlines"}, {}),
        ({"reason": "x" * 501}, {}),
        (REASON, {"X_Actor": ""}),
        (REASON, {"X_Actor": "x" * 201}),
    ],
)
async def test_ms_7_every_action_has_an_actor_and_a_reason(
    database_url: str, connection: asyncpg.Connection, web: Served, body: dict[str, Any], headers: dict[str, str]
) -> None:
    parked_id = await park_subscription(database_url, "evt_1")
    for action in ("replay", "discard"):
        assert (await act(web, f"{parked_id}/{action}", body, **headers)).status_code == 422
    without = await web.client.post(f"/v1/ops/parked/{parked_id}/discard", json=REASON, headers=API)
    assert without.status_code == 422
    assert await connection.fetchval("SELECT state FROM parked_messages") == "parked"


async def test_ms_7_the_list_is_filtered(database_url: str, web: Served) -> None:
    await park_subscription(database_url, "evt_1")
    await park_subscription(database_url, "evt_2", "eve", kind="updated")
    for query in ("type=stripe.customer.subscription.updated", "account=user:eve", "error=bug&account=user:eve"):
        found = (await web.get(f"/v1/ops/parked?{query}")).json()["messages"]
        assert [one["message_id"] for one in found] == ["evt_2"]
    for query in ("error=no such", "account=user:bob", "type=tick", "state=retrying"):
        assert (await web.get(f"/v1/ops/parked?{query}")).json()["messages"] == []
