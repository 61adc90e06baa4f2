"""`Idempotency-Key`: the first answer is given again; a crash anywhere repeats no effect."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from bursar.db import idempotency
from bursar.db.accounts import lock_accounts, make_accounts
from tests.service.web.serving import API, Served

TRIAL = "/v1/users/ada/kiloclaw/trial"


async def test_the_first_answer_is_given_again(web: Served, connection: asyncpg.Connection) -> None:
    first, again = [await web.post(TRIAL, key="k1") for _ in range(2)]

    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert await connection.fetchval("SELECT count(*) FROM change_log") == 1


async def test_a_refusal_is_an_answer_too(web: Served) -> None:
    await web.post(TRIAL)
    first, again = [await web.post(TRIAL, key="k1") for _ in range(2)]
    assert first.json() == again.json()
    assert (again.status_code, again.headers["content-type"]) == (400, "application/problem+json")


async def test_another_body_under_the_same_key_is_refused(web: Served) -> None:
    path = "/v1/users/ada/kiloclaw/earlybird"
    await web.post(path, {"payment_id": "pi_1"}, key="k1")
    reused = await web.post(path, {"payment_id": "pi_2"}, key="k1")
    assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_key_is_the_accounts_and_the_routes_own(web: Served) -> None:
    assert (await web.post(TRIAL, key="k1")).status_code == 200
    other = await web.post("/v1/users/grace/kiloclaw/trial", key="k1")
    assert (other.status_code, other.headers.get("idempotent-replayed")) == (200, None)


async def test_a_request_in_flight_is_a_conflict(web: Served, connection: asyncpg.Connection) -> None:
    await make_accounts(connection, {"user:ada"}, 32)
    async with connection.transaction():
        await lock_accounts(connection, ["user:ada"])
        first = asyncio.create_task(web.post(TRIAL, key="k1"))
        await claimed(web)
        second = await web.post(TRIAL, key="k1")
    assert (second.status_code, second.json()["code"]) == (409, "conflict")
    assert (await first).status_code == 200


async def test_a_crash_between_effect_and_answer_repeats_no_effect(web: Served, connection: asyncpg.Connection) -> None:
    first = await web.post(TRIAL, key="k1")
    # As if the process had died before it kept the answer.
    await connection.execute(
        "UPDATE idempotency SET status = NULL, answer = NULL, created_at = created_at - $1::interval",
        idempotency.ABANDONED_AFTER + timedelta(seconds=1),
    )
    again = await web.post(TRIAL, key="k1")

    assert (again.status_code, again.json()) == (200, first.json())
    assert "idempotent-replayed" not in again.headers
    assert await connection.fetchval("SELECT count(*) FROM change_log") == 1


async def test_a_crash_of_the_release_before_repeats_no_effect(web: Served, connection: asyncpg.Connection) -> None:
    first = await web.post(TRIAL, key="k1")
    # It kept no result with the effect.
    await connection.execute(
        "UPDATE idempotency SET status = NULL, answer = NULL, released = true, command_id = NULL, result = NULL"
    )
    again = await web.post(TRIAL, key="k1")

    assert (again.status_code, again.json()) == (200, first.json())
    assert await connection.fetchval("SELECT count(*) FROM change_log") == 1


async def test_after_thirty_days_a_key_has_no_old_result(web: Served, connection: asyncpg.Connection) -> None:
    await web.post(TRIAL, key="k1")
    await connection.execute("UPDATE idempotency SET created_at = created_at - interval '30 days 1 minute'")
    assert (await web.post(TRIAL, key="k1")).status_code == 400  # once a lifetime
    assert await connection.fetchval("SELECT count(*) FROM idempotency WHERE result IS NULL") == 1


async def test_a_crash_after_a_refusal_does_not_turn_it_into_a_grant(
    web: Served, connection: asyncpg.Connection
) -> None:
    await web.post(TRIAL)
    assert (await web.post(TRIAL, key="k1")).status_code == 400
    await connection.execute(
        "UPDATE idempotency SET status = NULL, answer = NULL, created_at = created_at - interval '1 hour'"
    )
    assert (await web.post(TRIAL, key="k1")).status_code == 400


async def test_an_abandoned_key_is_still_its_bodys_own(web: Served, connection: asyncpg.Connection) -> None:
    path = "/v1/users/ada/kiloclaw/earlybird"
    await web.post(path, {"payment_id": "pi_1"}, key="k1")
    await connection.execute(
        "UPDATE idempotency SET status = NULL, answer = NULL, created_at = created_at - interval '1 hour'"
    )
    assert (await web.post(path, {"payment_id": "pi_2"}, key="k1")).status_code == 422


async def test_a_fresh_claim_without_an_answer_is_not_taken_over(web: Served, connection: asyncpg.Connection) -> None:
    await web.post(TRIAL, key="k1")
    await connection.execute("UPDATE idempotency SET status = NULL, answer = NULL")
    assert (await web.post(TRIAL, key="k1")).status_code == 409


async def test_after_thirty_days_a_key_is_new(web: Served, connection: asyncpg.Connection) -> None:
    path = "/v1/users/ada/kiloclaw/earlybird"
    await web.post(path, {"payment_id": "pi_1"}, key="k1")
    await connection.execute("UPDATE idempotency SET created_at = created_at - interval '30 days 1 minute'")
    renewed = await web.post(path, {"payment_id": "pi_2"}, key="k1")
    assert (renewed.status_code, renewed.json()["code"]) == (400, "already_purchased")


async def test_an_answer_that_may_differ_next_time_is_not_kept(web: Served, connection: asyncpg.Connection) -> None:
    invalid = await web.post("/v1/users/ada/kiloclaw/earlybird", {"payment": "pi_1"}, key="k1")
    assert invalid.status_code == 422
    assert await connection.fetchval("SELECT count(*) FROM idempotency") == 0
    valid = await web.post("/v1/users/ada/kiloclaw/earlybird", {"payment_id": "pi_1"}, key="k1")
    assert valid.status_code == 200


async def test_without_the_bearer_no_kept_answer_is_told(web: Served) -> None:
    await web.post(TRIAL, key="k1")
    stranger = await web.client.post(TRIAL, json={}, headers={"Idempotency-Key": "k1"})
    assert stranger.status_code == 401


@pytest.mark.parametrize("key", ["", "k" * 256, "k\x7f"])
async def test_a_key_has_a_form(web: Served, key: str) -> None:
    answer = await web.client.post(TRIAL, json={}, headers=API | {"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


async def claimed(web: Served) -> None:
    """Wait until a request has claimed its key."""
    async with asyncio.timeout(10), web.decider.pool.acquire() as connection:
        while not await connection.fetchval("SELECT count(*) FROM idempotency"):
            pass
