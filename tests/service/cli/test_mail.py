"""`bursar mail`, as an operator runs it, with real servers for providers (KC-89)."""

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from bursar.service.cli.mail import send
from bursar.service.gateways.mail import SendOutcome
from bursar.service.mail.render import MAILS
from bursar.service.settings import MailSettings
from tests.service.cli.running import Ran, bursar
from tests.service.gateways.fake_http import FakeHttp, Reply
from tests.service.gateways.fake_smtp import FakeSmtp

ADDRESS = "ann@example.test"
SETTINGS = {"APP_URL": "https://app.bursar.test", "EMAIL_FROM": "Bursar <billing@bursar.test>"}


async def send_test(mail_type: str, **settings: str) -> Ran:
    return await asyncio.to_thread(
        lambda: bursar("mail", "send-test", mail_type, "--to", ADDRESS, **{**SETTINGS, **settings})
    )


def smtp(server: FakeSmtp) -> dict[str, str]:
    return {
        "EMAIL_PROVIDER": "smtp",
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(server.port),
        "SMTP_STARTTLS": "0",
    }


def mailgun(server: FakeHttp) -> dict[str, str]:
    return {
        "EMAIL_PROVIDER": "mailgun",
        "MAILGUN_API_KEY": "hidden-key",
        "MAILGUN_DOMAIN": "mg.bursar.test",
        "MAILGUN_API_BASE": server.url,
    }


def customerio(server: FakeHttp) -> dict[str, str]:
    return {
        "EMAIL_PROVIDER": "customerio",
        "CUSTOMERIO_APP_API_KEY": "hidden-key",
        "CUSTOMERIO_API_BASE": server.url,
    }


def test_kc_89_all_types_are_listed() -> None:
    listed = json.loads(bursar("mail", "preview", "--list", "--json").out)
    assert {one["type"]: one["subject"] for one in listed} == {name: one.subject for name, one in MAILS.items()}
    table = bursar("mail", "preview", "--list").out
    assert all(name in table for name in MAILS)


def test_kc_89_a_preview_is_the_subject_and_the_text_or_one_form() -> None:
    whole, html, text = (bursar("mail", "preview", "claw_trial_1d", *form).out for form in ([], ["--html"], ["--text"]))
    assert whole.startswith("Subject: Your KiloClaw Trial Expires Tomorrow\n\nHi ")
    assert whole.endswith(text)
    assert text.startswith("Hi ")
    assert html.startswith("<!doctype html>")
    as_json = json.loads(bursar("mail", "preview", "claw_trial_1d", "--json").out)
    assert as_json["subject"] == "Your KiloClaw Trial Expires Tomorrow"
    assert (as_json["html"] + "\n", as_json["text"] + "\n") == (html, text)


def test_kc_89_every_mail_is_written_in_both_forms_with_all_its_sentences(tmp_path: Path) -> None:
    ran = bursar("mail", "preview", "--out", str(tmp_path / "new" / "folder"), APP_URL="https://app.bursar.test")
    written = [Path(line) for line in ran.out.splitlines()]
    assert {file.name for file in written} == {f"{name}.{form}" for name in MAILS for form in ("html", "txt")}
    for file in written:
        content = file.read_text(encoding="utf-8")
        assert "https://app.bursar.test/claw" in content
        assert "Ada Example" in content
        assert re.search(r"\d{1,2} \w+ 2026", content) or file.stem == "claw_instance_destroyed"


def test_kc_89_one_form_of_one_mail_is_written(tmp_path: Path) -> None:
    ran = bursar("mail", "preview", "claw_trial_5d", "--html", "--out", str(tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["claw_trial_5d.html"]
    assert ran.out == f"{tmp_path / 'claw_trial_5d.html'}\n"


def test_previews_that_cannot_be_written_are_said() -> None:
    ran = bursar("mail", "preview", "--out", "/dev/null/folder")
    assert (ran.exit_code, ran.out) == (1, "")
    assert ran.err == "bursar: The previews cannot be written there (Not a directory).\n"


async def test_kc_89_a_test_mail_goes_over_smtp() -> None:
    async with FakeSmtp().running() as server:
        ran = await send_test("claw_trial_5d", **smtp(server))
    assert (ran.exit_code, ran.out, ran.err) == (0, "", "The provider accepted the mail.\n")
    assert server.recipients == [ADDRESS]


async def test_kc_89_every_mail_can_be_sent_as_a_test_in_both_forms() -> None:
    async with FakeSmtp().running() as server:
        settings = MailSettings.model_validate(
            {name.lower(): value for name, value in (SETTINGS | smtp(server)).items()}
        )
        for mail_type in MAILS:
            assert (await send(settings, mail_type, ADDRESS)).outcome is SendOutcome.SENT
    assert [letter["Subject"] for letter in server.letters] == [f"[Test] {one.subject}" for one in MAILS.values()]
    assert len({letter["Message-ID"] for letter in server.letters}) == len(MAILS)
    for letter in server.letters:
        assert [part.get_content_type() for part in letter.iter_parts()] == ["text/plain", "text/html"]


@pytest.mark.parametrize(
    ("settings", "reply", "exit_code", "said"),
    [
        (mailgun, Reply(), 0, "The provider accepted the mail.\n"),
        (customerio, Reply(), 0, "The provider accepted the mail.\n"),
        (mailgun, Reply(401, b"ann@example.test"), 1, "bursar: The provider did not take the mail (http_401).\n"),
        (
            customerio,
            Reply(504),
            1,
            "bursar: The provider took the mail and did not answer (http_504): it may arrive.\n",
        ),
    ],
)
async def test_kc_89_a_test_mail_takes_the_configured_provider_and_says_how_it_went(
    settings: Callable[[FakeHttp], dict[str, str]], reply: Reply, exit_code: int, said: str
) -> None:
    async with FakeHttp(reply).running() as server:
        ran = await send_test("claw_trial_5d", **settings(server))
    assert (ran.exit_code, ran.out, ran.err) == (exit_code, "", said)
    assert len(server.requests) == 1


async def test_ms_14_a_refused_address_is_said_without_repeating_it() -> None:
    async with FakeSmtp(recipient_answer=f"550 {ADDRESS} is not wanted").running() as server:
        ran = await send_test("claw_trial_5d", **smtp(server))
    assert (ran.exit_code, ran.err) == (1, "bursar: The provider refused the address (smtp_550).\n")


async def test_without_a_provider_it_is_said() -> None:
    ran = await send_test("claw_trial_5d", EMAIL_PROVIDER="none")
    assert ran.exit_code == 1
    assert ran.err.startswith("bursar: EMAIL_PROVIDER is none")


async def test_a_missing_setting_is_named() -> None:
    ran = await send_test("claw_trial_5d", EMAIL_PROVIDER="mailgun", MAILGUN_API_KEY="hidden-key")
    assert (ran.exit_code, ran.err) == (1, "bursar: MAILGUN_DOMAIN is missing: EMAIL_PROVIDER=mailgun needs it.\n")


def test_ms_14_an_address_that_is_none_is_not_repeated() -> None:
    ran = bursar("mail", "send-test", "claw_trial_5d", "--to", "ann@example.test, eve@example.test")
    assert ran.exit_code == 2
    assert "example" not in ran.err
