"""`bursar mail`: see every mail, and send one as a test (KC-89)."""

import asyncio
import json as jsons
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, assert_never

import typer
from rich.console import Console
from rich.table import Table

from bursar.service.cli.errors import CommandFailed
from bursar.service.gateways.mail import MalformedRecipient, OutgoingMail, SendOutcome, SendResult, recipient_address
from bursar.service.mail.render import MAILS, Rendered, render
from bursar.service.mail.samples import SAMPLE_APP_URL, sample_context
from bursar.service.settings import MailSettings, load_settings

group = typer.Typer(help="The mails to users.", no_args_is_help=True, rich_markup_mode=None)


def _mail_type(name: str | None) -> str | None:
    if name is not None and name not in MAILS:
        raise typer.BadParameter(f"there is no such mail; choose one of {', '.join(MAILS)}")
    return name


def _address(address: str) -> str:
    try:
        return recipient_address(address).addr_spec
    except MalformedRecipient:
        raise typer.BadParameter("this is not one address of the form local@domain") from None


@group.command()
def preview(
    mail_type: Annotated[
        str | None, typer.Argument(metavar="TYPE", callback=_mail_type, help="The mail; with --out, default: all.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(file_okay=False, metavar="DIR", help="Write files TYPE.html and TYPE.txt there.")
    ] = None,
    *,
    html: Annotated[bool, typer.Option("--html", help="The HTML only.")] = False,
    text: Annotated[bool, typer.Option("--text", help="The plain text only.")] = False,
    list_types: Annotated[bool, typer.Option("--list", help="List the types and their subjects.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a mail to a made-up user: subject and text, or with --html the page. Needs no settings."""
    if list_types:
        _list_types(json=json)
    elif out is not None:
        forms = [form for form, asked in (("html", html), ("txt", text)) if asked] or ["html", "txt"]
        _write([mail_type] if mail_type else list(MAILS), forms, out)
    elif mail_type is not None:
        _show(mail_type, html=html, text=text, json=json)
    else:
        raise typer.BadParameter("name a TYPE, or use --list or --out")


@group.command("send-test")
def send_test(
    mail_type: Annotated[str, typer.Argument(metavar="TYPE", callback=_mail_type, help="`preview --list` shows them.")],
    to: Annotated[str, typer.Option(callback=_address, metavar="ADDRESS", help="Who gets it.")],
) -> None:
    """Send a mail to a made-up user to this address, with the provider of EMAIL_PROVIDER. Notes nothing down."""
    settings = load_settings(MailSettings)
    if settings.email_provider == "none":
        raise CommandFailed("EMAIL_PROVIDER is none: no provider is configured that could send a mail.")
    result = asyncio.run(send(settings, mail_type, to))
    if result.outcome is not SendOutcome.SENT:
        raise CommandFailed(_failure(result))
    typer.echo("The provider accepted the mail.", err=True)


def _list_types(*, json: bool) -> None:
    if json:
        types = [{"type": name, "template": mail.name, "subject": mail.subject} for name, mail in MAILS.items()]
        typer.echo(jsons.dumps(types, indent=2))
        return
    table = Table("type", "subject")
    for name, mail in MAILS.items():
        table.add_row(name, mail.subject)
    Console(highlight=False, markup=False).print(table)


def _sample(mail_type: str) -> Rendered:
    return render(mail_type, sample_context(os.environ.get("APP_URL") or SAMPLE_APP_URL))


def _show(mail_type: str, *, html: bool, text: bool, json: bool) -> None:
    sample = _sample(mail_type)
    if json:
        fields = {"type": mail_type, "subject": sample.subject, "html": sample.html, "text": sample.text}
        typer.echo(jsons.dumps(fields, indent=2))
    elif html or text:
        typer.echo("\n".join(form for form, asked in ((sample.text, text), (sample.html, html)) if asked))
    else:
        typer.echo(f"Subject: {sample.subject}\n\n{sample.text}")


def _write(mail_types: list[str], forms: list[str], folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for mail_type in mail_types:
            sample = _sample(mail_type)
            for form in forms:
                file = folder / f"{mail_type}.{form}"
                file.write_text(sample.html if form == "html" else sample.text, encoding="utf-8")
                typer.echo(file)
    except OSError as error:
        raise CommandFailed(f"The previews cannot be written there ({error.strerror}).") from None


async def send(settings: MailSettings, mail_type: str, recipient: str) -> SendResult:
    """Send a mail to a made-up user once, with the provider that the settings name."""
    from bursar.service.processes.outside import opened_mail  # noqa: PLC0415 - it is much, and previews are quick

    rendered = render(mail_type, sample_context(settings.app_url))
    now = datetime.now(UTC)
    outgoing = OutgoingMail(
        key=f"test:{mail_type}:{now.isoformat()}",  # a test is a mail of its own each time
        mail_type=mail_type,
        subject=f"[Test] {rendered.subject}",
        html=rendered.html,
        text=rendered.text,
        recipient=recipient,
        dated_at=now,
    )
    async with opened_mail(settings) as gateway:
        return await gateway.send(outgoing)


def _failure(result: SendResult) -> str:
    match result.outcome:
        case SendOutcome.REJECTED:
            return f"The provider refused the address ({result.error})."
        case SendOutcome.RETRY:
            return f"The provider did not take the mail ({result.error})."
        case SendOutcome.UNKNOWN:
            return f"The provider took the mail and did not answer ({result.error}): it may arrive."
        case SendOutcome.NOT_CONFIGURED | SendOutcome.SENT:
            return "The mail was not sent."
        case _:
            assert_never(result.outcome)
