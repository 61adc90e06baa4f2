"""A real SMTP server (aiosmtpd) on an ephemeral port whose answers a test chooses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

ACCEPTED = "250 OK"


@dataclass(slots=True)
class FakeSmtp:
    """Answers as told; with `hangs` or `hangs_up` it takes the letter and never says so."""

    sender_answer: str = ACCEPTED
    recipient_answer: str = ACCEPTED
    letter_answer: str = ACCEPTED
    hangs: bool = False
    hangs_up: bool = False
    password: str | None = None
    letters: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    port: int = 0
    _sessions: list["_Server"] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FakeSmtp"]:
        server = await asyncio.get_running_loop().create_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()
            await asyncio.gather(*(session.ended.wait() for session in self._sessions))

    def _accept(self) -> "_Server":
        session = _Server(self)
        self._sessions.append(session)
        return session

    def login(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, given: object
    ) -> AuthResult:
        right = isinstance(given, LoginPassword) and given.password.decode() == self.password
        return AuthResult(success=right, handled=False)

    async def handle_MAIL(  # noqa: N802 - aiosmtpd finds its hooks by name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        envelope.mail_from = address
        return self.sender_answer

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        self.recipients.append(address)
        envelope.rcpt_tos.append(address)
        return self.recipient_answer

    async def handle_DATA(self, server: "_Server", _session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.hangs_up:
            server.hang_up()
        if self.hangs:
            await server.ended.wait()
        assert isinstance(envelope.content, bytes)
        letter = message_from_bytes(envelope.content, policy=policy.default)
        self.letters.append(letter)
        return self.letter_answer


class _Server(SMTP):
    """One session, which says when it has ended."""

    def __init__(self, handler: FakeSmtp) -> None:
        super().__init__(
            handler,
            hostname="localhost",
            auth_required=handler.password is not None,
            auth_require_tls=False,
            authenticator=handler.login,
        )
        self.ended = asyncio.Event()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.ended.set()

    def hang_up(self) -> None:
        assert isinstance(self.transport, asyncio.WriteTransport)
        self.transport.abort()
