"""Trial, provisioning, earlybird, status and gate over HTTP (KC-10…KC-12, KC-100, KC-101, KC-110)."""

import asyncio
from datetime import timedelta

import asyncpg

from bursar.db.accounts import lock_accounts, make_accounts
from bursar.db.connections import _prepare
from bursar.db.decide import Limits
from bursar.service.deciding.decider import Decider
from tests.billing.kiloclaw.making import NOW
from tests.db.deciding import StandingClock
from tests.service.web.serving import API, Served, served

ADA = "/v1/users/ada/kiloclaw"


async def test_kc_10_a_trial_is_started_and_shown(web: Served) -> None:
    started = await web.post(f"{ADA}/trial")
    ends_at = (NOW + timedelta(days=30)).isoformat()

    assert started.status_code == 200
    assert started.json() == {"plan": "trial", "status": "trialing", "trial_ends_at": ends_at}
    status = (await web.get(f"{ADA}/status")).json()
    assert (status["hasAccess"], status["accessReason"], status["trialEligible"]) == (True, "trial", False)
    assert status["trial"]["daysRemaining"] == 30


async def test_kc_10_with_a_row_present_the_trial_is_refused(web: Served) -> None:
    await web.post(f"{ADA}/trial")
    again = await web.post(f"{ADA}/trial")

    assert again.status_code == 400
    assert again.headers["content-type"] == "application/problem+json"
    assert again.json() == {
        "type": "urn:bursar:problem:already_subscribed",
        "title": "Subscribed already",
        "status": 400,
        "detail": "You already have a subscription.",
        "code": "already_subscribed",
    }


async def test_kc_11_two_concurrent_starts_leave_one_trial(web: Served, connection: asyncpg.Connection) -> None:
    answers = await asyncio.gather(*(web.post(f"{ADA}/trial") for _ in range(4)))

    assert sorted(answer.status_code for answer in answers) == [200, 400, 400, 400]
    assert await connection.fetchval("SELECT count(*) FROM kiloclaw_subscriptions") == 1


async def test_kc_11_after_an_earlybird_purchase_there_is_no_trial(web: Served) -> None:
    assert (await web.post(f"{ADA}/earlybird", {"payment_id": "pi_1"})).status_code == 200
    refused = await web.post(f"{ADA}/trial")
    assert (refused.status_code, refused.json()["code"]) == (403, "trial_not_eligible")


async def test_kc_12_provisioning_makes_the_trial_and_repeats_harmlessly(web: Served) -> None:
    for _ in range(2):
        answer = await web.post(f"{ADA}/provision", {"instance_id": "inst-1"})
        assert (answer.status_code, answer.json()) == (200, {"instance_id": "inst-1"})
    second = await web.post(f"{ADA}/provision", {"instance_id": "inst-2"})
    assert (second.status_code, second.json()["code"]) == (409, "instance_exists")


async def test_kc_12_an_instance_of_another_user_is_refused(web: Served) -> None:
    await web.post("/v1/users/grace/kiloclaw/provision", {"instance_id": "inst-1"})
    stolen = await web.post(f"{ADA}/provision", {"instance_id": "inst-1"})

    assert (stolen.status_code, stolen.json()["code"]) == (409, "instance_of_another")
    assert (await web.get(f"{ADA}/status")).json()["trialEligible"], "nothing of the refused command was saved"


async def test_kc_12_without_cover_provisioning_is_refused_with_the_reason(web: Served, clock: StandingClock) -> None:
    await web.post(f"{ADA}/earlybird", {"payment_id": "pi_1"})
    clock.now = NOW + timedelta(days=365)
    refused = await web.post(f"{ADA}/provision", {"instance_id": "inst-1"})
    assert (refused.status_code, refused.json()["code"]) == (403, "no_access")
    assert (refused.json()["hasAccess"], refused.json()["reason"]) == (False, "earlybird_expired")


async def test_kc_12_the_user_destroyed_the_instance(web: Served) -> None:
    await web.post(f"{ADA}/provision", {"instance_id": "inst-1"})
    for _ in range(2):
        gone = await web.client.delete(f"{ADA}/instances/inst-1", headers=API)
        assert (gone.status_code, gone.json()) == (200, {"instance_id": "inst-1"})
    assert (await web.get(f"{ADA}/status")).json()["instance"]["destroyed"]
    unknown = await web.client.delete(f"{ADA}/instances/inst-9", headers=API)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_instance")


async def test_kc_76_a_payment_buys_earlybird_for_one_user(web: Served) -> None:
    assert (await web.post(f"{ADA}/earlybird", {"payment_id": "pi_1"})).status_code == 200
    assert (await web.post(f"{ADA}/earlybird", {"payment_id": "pi_1"})).status_code == 200
    other = await web.post(f"{ADA}/earlybird", {"payment_id": "pi_2"})
    assert (other.status_code, other.json()["code"]) == (400, "already_purchased")
    taken = await web.post("/v1/users/grace/kiloclaw/earlybird", {"payment_id": "pi_1"})
    assert (taken.status_code, taken.json()["code"]) == (409, "payment_taken")


async def test_kc_101_the_gate_follows_business_time(web: Served, clock: StandingClock) -> None:
    new = await web.get(f"{ADA}/access")
    assert (new.status_code, new.json()["code"], new.json()["reason"]) == (403, "no_access", "no_access")

    await web.post(f"{ADA}/trial")
    granted = await web.get(f"{ADA}/access")
    assert (granted.status_code, granted.json()) == (200, {"hasAccess": True, "accessReason": "trial"})

    clock.now = NOW + timedelta(days=30)
    over = await web.get(f"{ADA}/access")
    assert (over.status_code, over.json()["reason"]) == (403, "trial_expired_instance_destroyed")


async def test_a_busy_account_is_a_conflict(database_url: str, connection: asyncpg.Connection) -> None:
    await make_accounts(connection, {"user:ada"}, 32)
    async with impatient_pool(database_url) as pool, served(Decider(pool, StandingClock(), Limits(32, 500))) as web:
        async with connection.transaction():
            await lock_accounts(connection, ["user:ada"])
            answers = [
                await web.post(f"{ADA}/trial", key="k1"),
                await web.put("/v1/users/ada", {"stripe_customer_id": "cus_1"}),
            ]
        for busy in answers:
            assert (busy.status_code, busy.json()["code"]) == (409, "busy")
            assert int(busy.headers["retry-after"]) > 0
        assert (await web.post(f"{ADA}/trial", key="k1")).status_code == 200


def impatient_pool(database_url: str) -> asyncpg.Pool:
    """A pool whose sessions wait for a lock for 50 ms only."""
    settings = {"lock_timeout": "50ms"}
    return asyncpg.create_pool(database_url, min_size=0, max_size=2, init=_prepare, server_settings=settings)
