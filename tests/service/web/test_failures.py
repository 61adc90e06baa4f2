"""Failed renewals in operators' hands, over HTTP (CR-63)."""

from typing import Any

import asyncpg
import httpx
import pytest

from bursar.db import renewal_failures
from bursar.db.renewal_failures import FailedRenewal
from bursar.service.observability.metrics import Metrics
from bursar.service.processes.gauges import WaitingGauges
from tests.billing.credits.crediting import DUE, a_credit_row
from tests.billing.kiloclaw.making import HOUR
from tests.db.deciding import REAL_NOW, StandingClock
from tests.service.crediting import balance, giving, hosted
from tests.service.failing_renewals import break_renewals, mend_renewals
from tests.service.steps.acting import Acting
from tests.service.web.serving import API, Served

REASON = {"reason": "the bank is open again"}


@pytest.fixture
def worker(web: Served, clock: StandingClock) -> Acting:
    clock.now = DUE + HOUR
    return Acting(web.decider, clock)


async def act(web: Served, path: str, **headers: str) -> httpx.Response:
    sent = API | {"X-Actor": "olga"} | headers
    return await web.client.post(f"/v1/ops/failures/{path}", json=REASON, headers=sent)


async def unresolved(worker: Acting, connection: asyncpg.Connection) -> int:
    """Ada's renewal has failed three times; the record's id."""
    await hosted(worker, a_credit_row(), 100)
    failed = FailedRenewal("user:ada", DUE, 3, REAL_NOW - HOUR, "bug", "Boom")
    await renewal_failures.record(connection, [failed])
    return int(await connection.fetchval("SELECT id FROM renewal_failures"))


async def shown(web: Served, failure_id: int) -> dict[str, Any]:
    found: dict[str, Any] = (await web.get(f"/v1/ops/failures/{failure_id}")).json()
    return found


async def test_cr_63_a_retry_that_works_renews_once_and_resolves(
    web: Served, worker: Acting, connection: asyncpg.Connection
) -> None:
    failure_id = await unresolved(worker, connection)
    assert [one["id"] for one in (await web.get("/v1/ops/failures?state=unresolved")).json()["failures"]] == [
        failure_id
    ]
    done = await act(web, f"{failure_id}/retry")
    again = await act(web, f"{failure_id}/retry")

    assert (done.json(), again.json()["outcome"]) == (
        {"id": failure_id, "outcome": "renewed", "error": None},
        "settled",
    )
    found = await shown(web, failure_id)
    assert (found["state"], [(one["action"], one["actor"]) for one in found["actions"]]) == (
        "resolved",
        [("retry", "olga")],
    )
    assert await balance(worker) == 75


async def test_cr_63_a_retry_that_fails_again_is_one_attempt_more(
    web: Served, worker: Acting, connection: asyncpg.Connection
) -> None:
    failure_id = await unresolved(worker, connection)
    await break_renewals(connection)
    failed = (await act(web, f"{failure_id}/retry")).json()
    found = await shown(web, failure_id)

    assert (failed["outcome"], "sk_test" in failed["error"]) == ("failed", False)
    assert (found["state"], found["attempts"], found["category"]) == ("unresolved", 4, "database")
    assert found["actions"][0]["error"] == failed["error"]
    await mend_renewals(connection)
    assert (await act(web, f"{failure_id}/retry")).json()["outcome"] == "renewed"


async def test_cr_63_a_retry_that_charges_the_card_resolves_nothing_until_the_money_has_come(
    web: Served, worker: Acting, connection: asyncpg.Connection
) -> None:
    await hosted(worker, a_credit_row(), 10, stripe_customer_id="cus_ada", auto_top_up=True)
    failed = FailedRenewal("user:ada", DUE, 3, REAL_NOW - HOUR, "bug", "Boom")
    await renewal_failures.record(connection, [failed])
    failure_id = int(await connection.fetchval("SELECT id FROM renewal_failures"))

    assert (await act(web, f"{failure_id}/retry")).json()["outcome"] == "topping_up"
    found = await shown(web, failure_id)
    assert (found["state"], [one["action"] for one in found["actions"]]) == ("unresolved", ["retry"])

    await worker.decider.decide([giving(20, payment_id="pi_topped")])
    assert (await act(web, f"{failure_id}/retry")).json()["outcome"] == "renewed"
    assert ((await shown(web, failure_id))["state"], await balance(worker)) == ("resolved", 5)


@pytest.mark.parametrize(("action", "state"), [("resolve", "resolved"), ("waive", "waived")])
async def test_cr_63_settling_a_second_time_does_nothing_and_renews_nothing(
    web: Served, worker: Acting, connection: asyncpg.Connection, action: str, state: str
) -> None:
    failure_id = await unresolved(worker, connection)
    answers = [(await act(web, f"{failure_id}/{one}")).json() for one in (action, action, "waive", "resolve")]

    assert [(answer["state"], answer["changed"]) for answer in answers] == [(state, True), *[(state, False)] * 3]
    found = await shown(web, failure_id)
    assert [one["reason"] for one in found["actions"]] == [REASON["reason"]]
    assert await balance(worker) == 100


async def test_cr_63_an_action_needs_an_actor_a_reason_and_a_record(web: Served) -> None:
    without = await web.client.post("/v1/ops/failures/7/waive", json=REASON, headers=API)
    assert without.status_code == 422
    assert [(await act(web, f"7/{action}")).status_code for action in ("retry", "resolve", "waive")] == [404] * 3
    assert (await web.get("/v1/ops/failures/7")).status_code == 404


async def test_cr_64_backlog_age_and_failures_are_measured(
    web: Served, worker: Acting, connection: asyncpg.Connection
) -> None:
    metrics = Metrics()
    await unresolved(worker, connection)
    await WaitingGauges(web.decider, metrics).measure()

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"bursar_{name}", labels)

    assert (value("renewals_due"), value("renewals_oldest_age_seconds")) == (1, 3_600)
    assert (value("renewal_failures", state="unresolved"), value("renewal_failures", state="retrying")) == (1, 0)
    assert (value("renewal_failed_attempts"), value("renewal_failures_oldest_age_seconds")) == (3, 3_600)
