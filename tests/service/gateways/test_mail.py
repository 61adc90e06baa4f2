from datetime import UTC, datetime

import pytest

from bursar.service.gateways.mail import (
    MalformedRecipient,
    NoMail,
    OutgoingMail,
    SendOutcome,
    compose,
    message_id,
    recipient_address,
    sender_domain,
)

SENDER = "Bursar <billing@bursar.test>"


def mail(
    recipient: str = "ann@example.test", key: str = "mail:user-1:claw_trial_5d:", text: str = "Hi Ann,\n"
) -> OutgoingMail:
    return OutgoingMail(
        key=key,
        mail_type="claw_trial_5d",
        subject="Your KiloClaw Trial Ends in 5 Days",
        html="<p>Hi Ännchen,</p>",
        text=text,
        recipient=recipient,
        dated_at=datetime(2026, 7, 1, 14, 5, tzinfo=UTC),
    )


async def test_kc_88_without_a_provider_nothing_is_configured() -> None:
    assert (await NoMail().send(mail())).outcome is SendOutcome.NOT_CONFIGURED


def test_kc_87_the_message_id_is_the_steps_for_every_attempt() -> None:
    first, again, other = (compose(mail(key=key), SENDER)["Message-ID"] for key in ("a", "a", "b"))
    assert first == again == message_id("a", "bursar.test")
    assert first != other
    assert first.endswith("@bursar.test>")


def test_kc_87_two_attempts_differ_in_nothing_a_provider_looks_at() -> None:
    first, again = compose(mail(), SENDER), compose(mail(), SENDER)
    assert first.items()[:-1] == again.items()[:-1]  # all but the MIME boundary


def test_a_mail_has_text_and_html_and_says_that_it_is_automatic() -> None:
    message = compose(mail(), SENDER)
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["X-Bursar-Mail-Type"] == "claw_trial_5d"
    assert message["Date"].datetime == datetime(2026, 7, 1, 14, 5, tzinfo=UTC)


def test_a_mail_is_in_seven_bits_and_short_lines() -> None:
    letter = compose(mail(text="long ü " * 500), SENDER).as_bytes()
    assert letter.isascii()
    assert max(map(len, letter.split(b"\r\n"))) <= 78


@pytest.mark.parametrize(
    "recipient",
    [
        "",
        "ann",
        "@example.test",
        "ann@",
        "ann@example.test\r\nBcc: eve@example.test",
        "ann@example.test\nX: y",
        "ann@example.test, eve@example.test",
        "ann@example.test;eve@example.test",
        "Ann <ann@example.test>",
        "ann@eve@example.test",
        "änn@example.test",
        "ann@example..test",
        "ann\x00@example.test",
        "<ann@example.test",
    ],
)
def test_ms_14_a_malformed_recipient_is_refused_and_not_repeated(recipient: str) -> None:
    with pytest.raises(MalformedRecipient) as caught:
        compose(mail(recipient), SENDER)
    assert "example" not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_recipients_domain_may_be_international() -> None:
    assert recipient_address("ann@bücher.test").addr_spec == "ann@xn--bcher-kva.test"


def test_a_subject_cannot_carry_a_header() -> None:
    hostile = OutgoingMail(
        key="k", mail_type="t", subject="Hi\r\nBcc: eve@example.test", html="", text="",
        recipient="ann@example.test", dated_at=datetime(2026, 7, 1, tzinfo=UTC),
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"linefeed|newline"):
        compose(hostile, SENDER)


def test_ms_14_a_mails_summary_tells_no_address_and_no_text() -> None:
    assert "ann" not in repr(mail()).lower()


@pytest.mark.parametrize("sender", ["", "Bursar", "Bursar <billing>"])
def test_a_sender_without_a_domain_stops_the_start(sender: str) -> None:
    with pytest.raises(ValueError, match="local@domain"):
        sender_domain(sender)
