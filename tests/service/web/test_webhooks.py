"""Stripe's webhooks: what is accepted, refused, parked, and sent back (MS-1, MS-2, MS-6)."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import asyncpg
import orjson
import pytest

from bursar.db.decide import Limits
from bursar.handlers.messages import MAX_BODY_BYTES
from bursar.service.deciding.decider import Decider
from tests.db.deciding import StandingClock
from tests.service.web.serving import API, OLD_SECRET, Served, an_event_body, served, signature


async def parked_rows(connection: asyncpg.Connection) -> list[asyncpg.Record]:
    return list(await connection.fetch("SELECT message_id, type, state, error, body FROM parked_messages"))


async def test_ms_1_a_signed_event_is_published_and_answered(web: Served) -> None:
    body = an_event_body(event_id="evt_7")
    answer = await web.send(body, traceparent=f"00-{'a' * 32}-{'b' * 16}-01")

    assert (answer.status_code, answer.json()) == (200, {"received": True})
    [message] = web.publisher.messages
    assert (message.message_id, message.type) == ("evt_7", "stripe.customer.subscription.created")
    assert (message.account, message.body) == ("user:ada", body)
    assert message.occurred_at is not None
    assert message.traceparent is not None
    assert message.traceparent.startswith(f"00-{'a' * 32}-")
    assert web.counted("accepted") == 1


async def test_ms_1_any_live_secret_may_have_signed(web: Served) -> None:
    body = an_event_body()
    assert (await web.send(body, Stripe_Signature=signature(body, OLD_SECRET))).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        signature(an_event_body(), "whsec_wrong"),
        signature(an_event_body(event_id="evt_other")),
        signature(an_event_body(), age_seconds=301),
        "t=1",
        "nonsense",
        "",
        f"t={'9' * 5000},v1=00",
    ],
    ids=["other secret", "other body", "stale", "unsigned", "nonsense", "empty", "absurd"],
)
async def test_ms_1_a_bad_or_stale_signature_is_refused(web: Served, header: str) -> None:
    answer = await web.send(an_event_body(), Stripe_Signature=header)

    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "invalid_signature"
    assert not web.publisher.messages
    assert web.counted("bad_signature") == 1


async def test_ms_1_no_signature_or_one_of_strange_bytes_is_refused(web: Served) -> None:
    body = an_event_body()
    for headers in ({}, {b"Stripe-Signature": "t=1,v1=é".encode("latin-1")}):
        answer = await web.client.post("/webhooks/stripe", content=body, headers=headers)
        assert answer.status_code == 400


async def test_ms_1_a_signature_within_the_tolerance_holds(web: Served) -> None:
    body = an_event_body()
    assert (await web.send(body, Stripe_Signature=signature(body, age_seconds=290))).status_code == 200


async def test_ms_1_bytes_that_are_no_text_are_refused(web: Served) -> None:
    answer = await web.client.post("/webhooks/stripe", content=b"\xff\xfe", headers={"Stripe-Signature": "t=1,v1=00"})
    assert answer.status_code == 400


async def test_ms_1_two_mebibytes_are_refused(web: Served) -> None:
    answer = await web.send(b" " * (2 * MAX_BODY_BYTES))
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert web.counted("too_large") == 1


async def test_ms_1_a_body_in_chunks_is_refused_as_soon_as_it_is_too_large(web: Served) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b" " * 65_536

    answer = await web.client.post("/webhooks/stripe", content=endless(), headers={"Stripe-Signature": "t=1,v1=00"})
    assert answer.status_code == 413
    assert taken == MAX_BODY_BYTES // 65_536 + 1


async def test_ms_1_a_length_that_lies_is_not_believed(web: Served) -> None:
    async def two_mebibytes() -> AsyncIterator[bytes]:
        yield b" " * (2 * MAX_BODY_BYTES)

    headers = {"Stripe-Signature": "t=1,v1=00", "Content-Length": "10"}
    assert (await web.client.post("/webhooks/stripe", content=two_mebibytes(), headers=headers)).status_code == 413


async def test_ms_1_a_body_of_just_the_bound_is_read(web: Served) -> None:
    event = an_event_body()
    assert (await web.send(event + b" " * (MAX_BODY_BYTES - len(event)))).status_code == 200


async def test_ms_1_an_unknown_event_type_is_counted_and_no_error(web: Served, connection: asyncpg.Connection) -> None:
    answer = await web.send(orjson.dumps({"id": "evt_1", "type": "charge.succeeded", "data": {}}))

    assert answer.status_code == 200
    assert web.counted("ignored") == 1
    assert not web.publisher.messages
    assert not await parked_rows(connection)


@pytest.mark.parametrize("down", ["silent", "down"])
async def test_ms_1_without_a_confirm_in_time_stripe_sends_again(web: Served, down: str) -> None:
    setattr(web.publisher, down, True)
    async with asyncio.timeout(5):
        answer = await web.send(an_event_body())

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["code"] == "broker_unavailable"
    assert web.counted("unavailable") == 1


@pytest.mark.parametrize(
    "body",
    [
        b"{broken",
        b"",
        b"[]",
        b"null",
        b"[" * 5_000,
        b'{"id": "evt_1"}',
        b'{"id": "evt_1", "type": 7}',
        orjson.dumps({"type": "invoice.paid", "data": {"object": {"customer": "cus_1"}}}),
        orjson.dumps({"id": "evt 1", "type": "invoice.paid", "data": {"object": {"customer": "cus_1"}}}),
        orjson.dumps({"id": "e" * 300, "type": "invoice.paid", "data": {"object": {"customer": "cus_1"}}}),
        orjson.dumps({"id": "evt_1", "type": "invoice.paid", "data": {"object": {}}}),
        orjson.dumps({"id": "evt_1", "type": "invoice.paid", "data": 7}),
        orjson.dumps({"id": "evt_1", "type": "invoice.paid", "data": {"object": {"customer": "cus_\x00"}}}),
    ],
)
async def test_ms_6_a_signed_body_that_no_lane_could_read_is_parked(
    web: Served, connection: asyncpg.Connection, body: bytes
) -> None:
    answers = [await web.send(body) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert not web.publisher.messages
    [row] = await parked_rows(connection)
    assert row["message_id"] == f"webhook:{hashlib.sha256(body).hexdigest()}"
    assert (row["state"], row["body"]) == ("parked", body)
    assert row["error"].startswith("UnreadableMessage")


async def test_ms_6_what_can_be_neither_published_nor_parked_is_sent_again() -> None:
    pool = await asyncpg.create_pool("postgresql://nobody@127.0.0.1:1/none", min_size=0, max_size=1, timeout=1)
    decider = Decider(pool, StandingClock(), Limits(32, 500))
    async with served(decider) as web:
        assert (await web.send(b"{broken")).status_code == 503
        assert (await web.send(an_event_body())).status_code == 200, "an event that names its user needs no database"
        body = an_event_body(metadata={"type": "kiloclaw"})
        assert (await web.send(body)).status_code == 200, "the lane looks the customer up"
        assert [message.account for message in web.publisher.messages] == ["user:ada", "customer:cus_1"]
        assert (await web.get("/v1/users/ada/kiloclaw/status")).status_code == 503


async def test_kc_31_a_known_customer_names_the_user_where_the_metadata_does_not(web: Served) -> None:
    await web.put("/v1/users/grace", {"stripe_customer_id": "cus_grace"})
    for event_id, customer in (("evt_1", "cus_grace"), ("evt_2", "cus_stranger")):
        await web.send(an_event_body(event_id=event_id, metadata={}, customer=customer))

    assert [message.account for message in web.publisher.messages] == ["user:grace", "customer:cus_stranger"]


async def test_ms_1_a_webhook_needs_no_bearer_and_no_other_method_answers(web: Served) -> None:
    answer = await web.client.get("/webhooks/stripe", headers=API)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
