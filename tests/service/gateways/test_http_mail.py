"""What Mailgun's and Customer.io's answers mean, against a real HTTP server; both gateways, one table."""

import json
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import parse_qs

import httpx
import pytest

from bursar.service.gateways.customerio import Customerio
from bursar.service.gateways.http_mail import MAX_REFUSAL_BYTES, HttpMail, mail_client
from bursar.service.gateways.mail import MailGateway, SendOutcome, SendResult, message_id
from bursar.service.gateways.mailgun import Mailgun
from tests.service.gateways.fake_http import FakeHttp, Reply, Request
from tests.service.gateways.test_mail import SENDER, mail

SENT, REJECTED, RETRY, UNKNOWN = SendOutcome.SENT, SendOutcome.REJECTED, SendOutcome.RETRY, SendOutcome.UNKNOWN
SECRET = "key-that-is-not-told"

MakeGateway = Callable[[str, httpx.AsyncClient, float], MailGateway]


def mailgun(url: str, client: httpx.AsyncClient, total_seconds: float) -> MailGateway:
    return HttpMail(Mailgun(url, "mg.bursar.test", SENDER, SECRET), client=client, total_seconds=total_seconds)


def customerio(url: str, client: httpx.AsyncClient, total_seconds: float) -> MailGateway:
    return HttpMail(Customerio(url, SENDER, SECRET), client=client, total_seconds=total_seconds)


def told_by_mailgun(text: str) -> bytes:
    return json.dumps({"message": text}).encode()


def told_by_customerio(text: str) -> bytes:
    return json.dumps({"meta": {"error": text}}).encode()


both = pytest.mark.parametrize("make", [mailgun, customerio])
both_tell = pytest.mark.parametrize(("make", "told"), [(mailgun, told_by_mailgun), (customerio, told_by_customerio)])


async def sent(
    make: MakeGateway, url: str, *, recipient: str = "ann@example.test", total_seconds: float = 5
) -> SendResult:
    async with mail_client() as client:
        return await make(url, client, total_seconds).send(mail(recipient))


async def answered(make: MakeGateway, reply: Reply) -> tuple[SendResult, list[Request]]:
    async with FakeHttp(reply).running() as server:
        return await sent(make, server.url), server.requests


async def test_mailgun_is_asked_as_it_is_documented() -> None:
    result, [request] = await answered(mailgun, Reply(body=b'{"id": "<1@x>", "message": "Queued. Thank you."}'))
    form = {name: value for name, [value] in parse_qs(request.body.decode()).items()}
    assert result == SendResult(SENT)
    assert (request.method, request.target) == ("POST", "/v3/mg.bursar.test/messages")
    assert httpx.BasicAuth("api", SECRET)._auth_header == request.headers["authorization"]
    assert form == {
        "from": SENDER,
        "to": "ann@example.test",
        "subject": mail().subject,
        "text": mail().text,
        "html": mail().html,
        "h:Message-Id": message_id(mail().key, "bursar.test"),
        "h:Auto-Submitted": "auto-generated",
        "h:X-Bursar-Mail-Type": "claw_trial_5d",
        "o:tag": "claw_trial_5d",
        "o:tracking": "no",
    }


async def test_customerio_is_asked_as_it_is_documented() -> None:
    result, [request] = await answered(customerio, Reply(body=b'{"delivery_id": "A1", "queued_at": 1}'))
    body = json.loads(request.body)
    assert result == SendResult(SENT)
    assert (request.method, request.target) == ("POST", "/v1/send/email")
    assert request.headers["authorization"] == f"Bearer {SECRET}"
    assert (body["to"], body["from"], body["subject"]) == ("ann@example.test", SENDER, mail().subject)
    assert (body["body"], body["body_plain"]) == (mail().html, mail().text)
    assert (body["identifiers"], body["transactional_message_id"]) == ({"email": "ann@example.test"}, "claw_trial_5d")
    assert body["headers"]["X-Bursar-Message-Id"] == message_id(mail().key, "bursar.test")


async def test_customerio_is_given_nothing_to_carry_out() -> None:
    hostile = replace(mail(), text="Hi {{customer.email}} {%if%} {{{,", html="<p>{{customer.email}}</p>")
    async with FakeHttp(Reply()).running() as server, mail_client() as client:
        await customerio(server.url, client, 5).send(hostile)
    body = json.loads(server.requests[0].body)
    assert body["body"] == "<p>&#123;&#123;customer.email}}</p>"
    assert body["body_plain"] == "Hi { {customer.email}} { %if%} { { {,"


@both_tell
async def test_kc_88_a_refused_address_is_rejected_for_good(make: MakeGateway, told: Callable[[str], bytes]) -> None:
    for text in ("'to' parameter is not a valid address. please check documentation", '"to" address is malformed'):
        result, _ = await answered(make, Reply(400, told(text)))
        assert result == SendResult(REJECTED, "http_400")


@both_tell
@pytest.mark.parametrize(
    "text",
    [
        "'from' parameter is not a valid address. please check documentation",
        '"from" address domain has not been verified',
        "to parameter is missing",
        "",
    ],
)
async def test_kc_87_what_is_ours_to_mend_rejects_nobody(
    make: MakeGateway, told: Callable[[str], bytes], text: str
) -> None:
    result, _ = await answered(make, Reply(400, told(text)))
    assert result == SendResult(RETRY, "http_400")


@both
@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 408, 413, 422, 500, 502, 503])
async def test_kc_87_a_refusal_is_tried_again(make: MakeGateway, status: int) -> None:
    result, requests = await answered(make, Reply(status, b"'to' is not a valid address: ann@example.test"))
    assert result == SendResult(RETRY, f"http_{status}")
    assert len(requests) == 1


@both
@pytest.mark.parametrize("status", [429, 503])
async def test_kc_87_the_providers_wish_for_when_is_passed_on(make: MakeGateway, status: int) -> None:
    result, _ = await answered(make, Reply(status, headers={"Retry-After": "120"}))
    assert result == SendResult(RETRY, f"http_{status}", 120)


@both
@pytest.mark.parametrize("body", [b"[]", b"null", b'{"meta": 1}', b'{"message": 7}', b"\xff", b"x" * 200_000])
async def test_a_refusal_that_cannot_be_read_is_still_a_refusal(make: MakeGateway, body: bytes) -> None:
    result, _ = await answered(make, Reply(400, body))
    assert result == SendResult(RETRY, "http_400")


@both_tell
async def test_a_refusal_is_read_up_to_a_bound(make: MakeGateway, told: Callable[[str], bytes]) -> None:
    endless = told("'to' parameter is not a valid address" + " " * MAX_REFUSAL_BYTES)
    result, _ = await answered(make, Reply(400, endless))
    assert result.outcome is RETRY


@both
@pytest.mark.parametrize("reply", [Reply(hangs=True), Reply(hangs_up=True), Reply(504)])
async def test_kc_87_no_answer_to_a_request_that_was_sent_is_unknown(make: MakeGateway, reply: Reply) -> None:
    async with FakeHttp(reply).running() as server:
        assert (await sent(make, server.url, total_seconds=0.3)).outcome is UNKNOWN
    assert len(server.requests) == 1


@both
async def test_kc_87_an_accepted_mail_is_sent_however_slowly_the_rest_comes(make: MakeGateway) -> None:
    async with FakeHttp(Reply(202, b"x" * 1_000, drips=True)).running() as server:
        assert await sent(make, server.url, total_seconds=1) == SendResult(SENT)


@both
async def test_kc_87_a_provider_that_is_down_was_sent_nothing(make: MakeGateway) -> None:
    async with FakeHttp(Reply()).running() as server:
        pass
    assert await sent(make, server.url) == SendResult(RETRY, "ConnectError")


@both
@pytest.mark.parametrize("reply", [Reply(), Reply(400)])
async def test_kc_87_a_mail_never_meets_the_end_of_a_kept_connection(make: MakeGateway, reply: Reply) -> None:
    async with FakeHttp(reply).running() as server, mail_client() as client:
        for _ in range(3):
            await make(server.url, client, 5).send(mail())
    assert server.connections == len(server.requests) == 3


@both
async def test_a_malformed_address_is_rejected_without_asking(make: MakeGateway) -> None:
    async with FakeHttp(Reply()).running() as server:
        result = await sent(make, server.url, recipient="ann@example.test, eve@example.test")
    assert result == SendResult(REJECTED, "recipient_malformed")
    assert server.requests == []


@both
async def test_ms_14_no_outcome_repeats_the_providers_words_or_the_key(make: MakeGateway) -> None:
    async with FakeHttp(Reply(403, b'{"message": "ann@example.test"}')).running() as server, mail_client() as client:
        gateway = make(server.url, client, 5)
        told = repr(await gateway.send(mail())) + repr(vars(gateway))
    assert "ann" not in told
    assert SECRET not in told
