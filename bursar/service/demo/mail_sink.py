"""A mail sink: takes every mail over SMTP, delivers none, and tells at `GET /_mails` what came.

Recipients are told by their local part only, which in the demo is the user's id.
"""

import asyncio
import logging
from collections import Counter
from email import message_from_bytes
from email.policy import default as parsed_by_policy

from aiosmtpd.smtp import SMTP, Envelope, Session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bursar.service.demo.standing_in import LOOPBACK, listen, port_of, port_parser, serve_until_orphaned

MAX_MAILS = 100_000
MAX_MAIL_BYTES = 1 << 20
TYPE_HEADER = "X-Bursar-Mail-Type"


class MailSink:
    """Keeps type, recipient and Message-ID of each mail, not its text."""

    def __init__(self) -> None:
        self._mails: list[dict[str, str]] = []

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        if len(self._mails) >= MAX_MAILS:
            return "452 4.3.1 the sink is full"
        assert isinstance(envelope.content, bytes)  # decode_data is off
        letter = message_from_bytes(envelope.content, policy=parsed_by_policy)
        for recipient in envelope.rcpt_tos:
            self._mails.append(
                {
                    "type": str(letter.get(TYPE_HEADER, "unknown")),
                    "user": recipient.rpartition("@")[0],
                    "message_id": str(letter.get("Message-ID", "")).strip(),
                    "subject": str(letter.get("Subject", "")),
                }
            )
        return "250 2.0.0 taken"

    @property
    def mails_taken(self) -> tuple[dict[str, str], ...]:
        """What came, in order."""
        return tuple(self._mails)

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/_mails", self.mails, methods=["GET"])])

    async def mails(self, _request: Request) -> Response:
        """All mails and their count by type; `repeated` lists Message-IDs that came more than once."""
        ids = Counter(mail["message_id"] for mail in self._mails)
        return JSONResponse(
            {
                "by_type": dict(Counter(mail["type"] for mail in self._mails)),
                "repeated": sorted(key for key, count in ids.items() if count > 1),
                "mails": self._mails,
            }
        )


async def _serve(http_port: int, smtp_port: int) -> None:
    logging.getLogger("mail.log").setLevel(logging.ERROR)  # it would write addresses (MS-14)
    sink = MailSink()
    loop = asyncio.get_running_loop()
    listening = listen(smtp_port)
    server = await loop.create_server(
        lambda: SMTP(sink, hostname=LOOPBACK, data_size_limit=MAX_MAIL_BYTES, enable_SMTPUTF8=True, loop=loop),
        sock=listening,
    )
    async with server:
        await serve_until_orphaned(sink.app(), listen(http_port), {"smtp": port_of(listening)})


def main() -> None:
    parser = port_parser(__doc__)
    parser.add_argument("--smtp-port", type=int, default=0, help="SMTP port on 127.0.0.1; 0 takes any free one")
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.port, arguments.smtp_port))


if __name__ == "__main__":
    main()
