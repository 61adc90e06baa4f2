from dataclasses import replace

import pytest

from bursar.service.gateways.mail import SendOutcome, SendResult
from bursar.service.gateways.smtp import SmtpMail, SmtpSettings
from tests.service.gateways.fake_http import FakeHttp, Reply
from tests.service.gateways.fake_smtp import FakeSmtp
from tests.service.gateways.test_mail import SENDER, mail

SENT, REJECTED, RETRY, UNKNOWN = SendOutcome.SENT, SendOutcome.REJECTED, SendOutcome.RETRY, SendOutcome.UNKNOWN


def settings(port: int) -> SmtpSettings:
    return SmtpSettings(host="127.0.0.1", port=port, sender=SENDER, starttls=False)


async def sent(server: FakeSmtp, recipient: str = "ann@example.test", timeout_seconds: float = 5) -> SendResult:
    return await SmtpMail(settings(server.port), timeout_seconds=timeout_seconds).send(mail(recipient))


async def test_an_accepted_mail_is_sent_once_and_arrives_whole() -> None:
    async with FakeSmtp().running() as server:
        assert await sent(server) == SendResult(SENT)
    [letter] = server.letters
    html = letter.get_body(("html",))
    assert html is not None
    assert html.get_content().strip() == "<p>Hi Ännchen,</p>"
    assert (letter["To"], letter["From"]) == ("ann@example.test", SENDER)
    assert server.recipients == ["ann@example.test"]


@pytest.mark.parametrize("code", [501, 550, 551, 552, 553, 554])
async def test_kc_88_a_refused_address_is_rejected_for_good(code: int) -> None:
    async with FakeSmtp(recipient_answer=f"{code} ann@example.test is not wanted").running() as server:
        result = await sent(server)
    assert result == SendResult(REJECTED, f"smtp_{code}")
    assert server.letters == []


@pytest.mark.parametrize("code", [421, 450, 451, 452, 503, 530])
async def test_kc_87_a_recipient_refused_for_now_or_for_the_session_is_tried_again(code: int) -> None:
    async with FakeSmtp(recipient_answer=f"{code} not now").running() as server:
        assert await sent(server) == SendResult(RETRY, f"smtp_{code}")


@pytest.mark.parametrize("code", [451, 550])
async def test_a_refused_sender_is_ours_to_mend_and_rejects_nobody(code: int) -> None:
    async with FakeSmtp(sender_answer=f"{code} no").running() as server:
        assert await sent(server) == SendResult(RETRY, f"smtp_{code}")


@pytest.mark.parametrize(("code", "outcome"), [(451, RETRY), (452, RETRY), (550, REJECTED), (554, REJECTED)])
async def test_kc_87_a_refused_letter_was_not_sent(code: int, outcome: SendOutcome) -> None:
    async with FakeSmtp(letter_answer=f"{code} no").running() as server:
        assert await sent(server) == SendResult(outcome, f"smtp_{code}")


async def test_kc_87_no_answer_to_the_letter_is_unknown() -> None:
    async with FakeSmtp(hangs=True).running() as server:
        assert (await sent(server, timeout_seconds=0.2)).outcome is UNKNOWN


async def test_kc_87_a_connection_lost_after_the_letter_is_unknown() -> None:
    async with FakeSmtp(hangs_up=True).running() as server:
        assert (await sent(server)).outcome is UNKNOWN


async def test_kc_87_a_server_that_never_greets_was_sent_nothing() -> None:
    async with FakeHttp(Reply()).running() as silent:  # waits for a request where SMTP waits for a greeting
        gateway = SmtpMail(settings(int(silent.url.rpartition(":")[2])), timeout_seconds=0.1)
        assert (await gateway.send(mail())).outcome is RETRY


async def test_a_server_that_is_down_is_tried_again() -> None:
    async with FakeSmtp().running() as server:
        pass
    assert await sent(server) == SendResult(RETRY, "SMTPConnectError")


async def test_a_malformed_address_is_rejected_without_asking_the_server() -> None:
    async with FakeSmtp().running() as server:
        result = await sent(server, "ann@example.test\r\nBcc: eve@example.test")
    assert result == SendResult(REJECTED, "recipient_malformed")
    assert server.recipients == []


async def test_starttls_is_required_never_merely_tried() -> None:
    async with FakeSmtp().running() as server:
        gateway = SmtpMail(replace(settings(server.port), starttls=True), timeout_seconds=5)
        assert (await gateway.send(mail())).outcome is RETRY
    assert server.recipients == []


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")  # on this machine's loopback
@pytest.mark.parametrize(("password", "outcome"), [("right", SENT), ("wrong", RETRY)])
async def test_a_login_that_fails_rejects_nobody(password: str, outcome: SendOutcome) -> None:
    async with FakeSmtp(password="right").running() as server:
        login = replace(settings(server.port), username="bursar", password=password)
        result = await SmtpMail(login, timeout_seconds=5).send(mail())
    assert result.outcome is outcome


async def test_ms_14_no_outcome_repeats_the_servers_words() -> None:
    async with FakeSmtp(recipient_answer="550 ann@example.test unknown").running() as server:
        assert "ann" not in repr(await sent(server))


def test_ms_14_the_settings_do_not_show_their_password() -> None:
    assert "hidden" not in repr(replace(settings(25), password="hidden"))
