"""Credits over HTTP: balance, ledger, enrolment (CR-20…CR-25), and payments from webhook to ledger (CR-10, CR-11)."""

import asyncio
from typing import Any

import asyncpg
import orjson
import pytest

from bursar.handlers.messages import item_of, resolve_accounts
from tests.billing.kiloclaw.making import CATALOGUE, NOW, event_json
from tests.service.web.serving import API, Served

DOLLAR = 1_000_000
ENROLL = "/v1/users/ada/kiloclaw/enroll"
STANDARD = {"plan": "standard", "instance_id": "inst-1"}


async def deliver(web: Served, *events: dict[str, Any]) -> None:
    """Through the relay, and then as a lane decides them."""
    for event in events:
        assert (await web.send(orjson.dumps(event))).status_code == 200
    for message in web.publisher.messages:
        async with web.decider.pool.acquire() as connection:
            account = (await resolve_accounts(connection, {message.account}))[message.account]
        (outcome,) = await web.decider.decide([item_of(message, account, CATALOGUE)])
        assert outcome.error is None
    web.publisher.messages.clear()


def top_up(dollars: int, payment_id: str = "pi_1", user: str = "ada") -> dict[str, Any]:
    payment = {
        "id": payment_id,
        "object": "payment_intent",
        "amount_received": dollars * 100,
        "currency": "usd",
        "metadata": {"type": "credit_topup", "userId": user},
    }
    return event_json("payment_intent.succeeded", payment, NOW, f"evt_{payment_id}")


async def balance(web: Served, user: str = "ada") -> int:
    answer = await web.get(f"/v1/users/{user}/credits")
    assert answer.status_code == 200
    dollars: int = answer.json()["balance_microdollars"] // DOLLAR
    return dollars


async def test_cr_10_a_top_up_is_deposited_and_shown(web: Served) -> None:
    assert (await web.get("/v1/users/ada/credits")).json() == {
        "acquired_microdollars": 0,
        "used_microdollars": 0,
        "balance_microdollars": 0,
        "auto_top_up": False,
    }
    await deliver(web, top_up(20), top_up(20) | {"id": "evt_again"}, top_up(50, "pi_2"))

    assert await balance(web) == 70
    entries = (await web.get("/v1/users/ada/credits/transactions")).json()["entries"]
    assert [entry["amount_microdollars"] for entry in entries] == [50 * DOLLAR, 20 * DOLLAR]
    assert entries[1] | {"id": 1} == {
        "id": 1,
        "amount_microdollars": 20 * DOLLAR,
        "kind": "deposit",
        "description": "Credit top-up",
        "business_key": "deposit:pi_1",
        "payment_id": "pi_1",
        "cause": "evt_pi_1",
        "created_at": "2026-06-01T09:00:00Z",
    }


async def test_the_ledger_is_read_page_by_page(web: Served) -> None:
    await deliver(web, *(top_up(1, f"pi_{number}") for number in range(5)))
    seen, cursor = [], ""
    for _ in range(3):
        page = (await web.get(f"/v1/users/ada/credits/transactions?limit=2{cursor}")).json()
        seen += [entry["payment_id"] for entry in page["entries"]]
        cursor = f"&cursor={page['next_cursor']}"

    assert seen == ["pi_4", "pi_3", "pi_2", "pi_1", "pi_0"]
    assert page["next_cursor"] is None


@pytest.mark.parametrize("order", ["after its payment", "before its payment"])
async def test_cr_11_a_lost_dispute_finds_its_user_by_the_payment(
    web: Served, connection: asyncpg.Connection, order: str
) -> None:
    dispute = {
        "id": "du_1",
        "object": "dispute",
        "amount": 2000,
        "currency": "usd",
        "status": "lost",
        "charge": "ch_1",
        "payment_intent": "pi_1",
    }
    closed = event_json("charge.dispute.closed", dispute, NOW, "evt_closed")
    events = [top_up(20), top_up(5, "pi_2", "eve"), closed, closed | {"id": "evt_again"}]
    for event in events if order == "after its payment" else events[::-1]:
        await deliver(web, event)

    assert (await balance(web), await balance(web, "eve")) == (0, 5)
    entries = (await web.get("/v1/users/ada/credits/transactions")).json()["entries"]
    assert [entry["kind"] for entry in entries] == ["dispute", "deposit"]
    assert await connection.fetchval("SELECT count(*) FROM credit_early_reversals") == 0


async def test_cr_10_payments_that_are_nobodys_go_no_further_than_the_relay(web: Served) -> None:
    foreign = top_up(20)
    foreign["data"]["object"]["metadata"] = {}
    charge = {"id": "ch_1", "object": "charge", "amount": 100, "amount_refunded": 100, "currency": "usd"}
    for event in (foreign, event_json("charge.refunded", charge, NOW, "evt_refund")):
        assert (await web.send(orjson.dumps(event))).status_code == 200

    assert web.publisher.messages == []
    assert web.counted("ignored") == 2


@pytest.mark.parametrize("order", ["as it happened", "backwards", "twice"])
async def test_cr_11_a_refunded_top_up_ends_the_same_in_any_order(web: Served, order: str) -> None:
    events = refunded_life()
    played = {"as it happened": events, "backwards": events[::-1], "twice": events + events}[order]
    await deliver(web, *played)

    assert await balance(web) == 15
    entries = (await web.get("/v1/users/ada/credits/transactions")).json()["entries"]
    assert {(entry["kind"], entry["amount_microdollars"] // DOLLAR) for entry in entries} == {
        ("deposit", 20),
        ("refund", -5),
    }


async def test_cr_22_enrolment_charges_and_makes_the_row_active(web: Served) -> None:
    await deliver(web, top_up(60))
    answer = await web.post(ENROLL, {"plan": "commit", "instance_id": "inst-1"})

    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "balance_microdollars": 6 * DOLLAR,
        "plan": "commit",
        "status": "active",
        "current_period_end": "2026-12-01T09:00:00+00:00",
        "commit_ends_at": "2026-12-01T09:00:00+00:00",
    }
    status = (await web.get("/v1/users/ada/kiloclaw/status")).json()
    assert status["hasAccess"] is True
    subscription = status["subscription"]
    assert (subscription["paymentSource"], subscription["has_stripe_funding"]) == ("credits", False)
    assert subscription["automaticTransition"] == {"plan": "standard", "at": "2026-12-01T09:00:00+00:00"}
    assert subscription["nextRenewalAt"] == "2026-12-01T09:00:00+00:00"
    assert subscription["nextRenewalCostMicrodollars"] == 25 * DOLLAR
    (log, *_) = (await web.get("/v1/users/ada/history")).json()["entries"]
    assert (log["actor"], log["reason"]) == ("api", "enrolled with credits")


async def test_cr_21_too_little_money_is_told_with_the_shortfall_and_leaves_nothing(
    web: Served, connection: asyncpg.Connection
) -> None:
    await deliver(web, top_up(20))
    answer = await web.post(ENROLL, STANDARD)

    assert answer.status_code == 402
    said = answer.json()
    assert (said["code"], said["shortfall_microdollars"]) == ("insufficient_credits", 5 * DOLLAR)
    assert await balance(web) == 20
    assert await connection.fetchval("SELECT count(*) FROM kiloclaw_subscriptions") == 0
    assert await connection.fetchval("SELECT count(*) FROM kiloclaw_instances") == 0


async def test_cr_20_an_instance_of_another_is_refused_and_nothing_is_charged(web: Served) -> None:
    assert (await web.post("/v1/users/eve/kiloclaw/provision", {"instance_id": "inst-1"})).status_code == 200
    await deliver(web, top_up(60))
    answer = await web.post(ENROLL, STANDARD)

    assert (answer.status_code, answer.json()["code"]) == (409, "instance_of_another")
    assert await balance(web) == 60


async def test_cr_23_the_same_request_again_is_answered_again_and_charges_once(web: Served) -> None:
    await deliver(web, top_up(60))
    first = await web.post(ENROLL, STANDARD, key="enroll-1")
    again = await web.post(ENROLL, STANDARD, key="enroll-1")

    assert (again.status_code, again.json()) == (200, first.json())
    assert (await web.post(ENROLL, STANDARD, key="enroll-2")).json()["code"] == "already_subscribed"
    assert await balance(web) == 35


async def test_kc_53_an_answer_that_was_lost_in_a_crash_is_given_again(
    web: Served, connection: asyncpg.Connection
) -> None:
    await deliver(web, top_up(60))
    await web.post(ENROLL, STANDARD)
    kiloclaw = "/v1/users/ada/kiloclaw"
    canceled = await web.post(f"{kiloclaw}/cancel", key="k1")
    reactivated = await web.post(f"{kiloclaw}/reactivate", key="k1")
    assert (canceled.status_code, reactivated.status_code) == (200, 200)
    await lose_answers(connection)

    assert (await web.post(f"{kiloclaw}/reactivate", key="k1")).json() == reactivated.json()
    assert (await web.post(f"{kiloclaw}/cancel", key="k1")).json() == canceled.json()
    assert await connection.fetchval("SELECT cancel_at_period_end FROM kiloclaw_subscriptions") is False


async def test_kc_53_what_was_granted_after_a_lost_refusal_is_given_again(
    web: Served, connection: asyncpg.Connection
) -> None:
    cancel = "/v1/users/ada/kiloclaw/cancel"
    assert (await web.post(cancel, key="k1")).json()["code"] == "no_subscription"
    await lose_answers(connection)
    await deliver(web, top_up(60))
    await web.post(ENROLL, STANDARD)
    canceled = await web.post(cancel, key="k1")
    await lose_answers(connection)

    assert (await web.post(cancel, key="k1")).json() == canceled.json()
    assert canceled.status_code == 200


async def lose_answers(connection: asyncpg.Connection) -> None:
    """As if each request had died before it kept its answer."""
    await connection.execute("UPDATE idempotency SET status = NULL, answer = NULL, released = true")


async def test_cr_23_fifty_enrolments_at_once_charge_once(web: Served) -> None:
    await deliver(web, top_up(25))
    answers = await asyncio.gather(*(web.post(ENROLL, STANDARD, key=f"enroll-{number}") for number in range(50)))

    codes = [answer.json().get("code", "enrolled") for answer in answers]
    assert codes.count("enrolled") == 1
    assert set(codes) <= {"enrolled", "already_subscribed", "busy"}
    assert await balance(web) == 0


async def test_kc_121_the_ledger_of_a_deleted_user_stays_under_a_tombstone(
    web: Served, connection: asyncpg.Connection
) -> None:
    await deliver(web, top_up(20))
    assert (await web.client.delete("/v1/users/ada", headers=API)).status_code == 200
    await deliver(web, top_up(20) | {"id": "evt_late"}, top_up(50, "pi_2"))

    assert await balance(web) == 0
    (entry,) = await connection.fetch("SELECT user_id, amount_microdollars FROM credit_transactions")
    assert entry["user_id"].startswith("deleted:")
    assert entry["amount_microdollars"] == 20 * DOLLAR


@pytest.mark.parametrize("body", [{}, {"plan": "trial", "instance_id": "i"}, {"plan": "standard"}])
async def test_a_wrong_enrolment_is_told_by_its_fields(web: Served, body: dict[str, Any]) -> None:
    answer = await web.post(ENROLL, body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def refunded_life() -> list[dict[str, Any]]:
    """A top-up that is refunded in part: what Stripe sends, refund and charge included."""
    names = {"type": "credit_topup", "userId": "ada"}
    whose = {"currency": "usd", "customer": "cus_1", "payment_intent": "pi_1"}
    charge = {"id": "ch_1", "object": "charge", "amount": 2000, "amount_refunded": 0, "metadata": names} | whose
    refund = {"id": "re_1", "object": "refund", "amount": 500, "charge": "ch_1", "metadata": {}} | whose
    return [
        event_json("charge.succeeded", charge, NOW, "evt_1"),
        top_up(20),
        event_json("refund.created", refund, NOW, "evt_3"),
        event_json("charge.refunded", charge | {"amount_refunded": 500}, NOW, "evt_4"),
    ]
