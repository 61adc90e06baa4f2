"""Stripe's API over HTTP on a port of 127.0.0.1. It can hang up without an answer, as a real connection does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import urlsplit

import orjson

from bursar.service.demo.lives import JsonObject
from bursar.service.stripe_stand_in.answering import Answering, Call
from bursar.service.stripe_stand_in.faults import Fault
from bursar.service.stripe_stand_in.forms import Params, decode
from bursar.service.stripe_stand_in.idempotency import Answer
from bursar.service.stripe_stand_in.refusals import StripeRefusal

HANGS_UP = (Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER)
MAX_BODY_BYTES = 1 << 20
CONTROL = "/stand-in/"
Control = Callable[[str, Params], Awaitable[JsonObject]]


@dataclass(slots=True)
class Server:
    """Takes requests one after the other on each connection."""

    answering: Answering
    calls: list[Call] = field(default_factory=list)
    control: Control | None = None  # where a test in another process drives it
    _sessions: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[str]:
        """Serve; the address is yielded."""
        listening = await asyncio.start_server(self._accept, "127.0.0.1", port)
        try:
            yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        finally:
            listening.close()
            for session in self._sessions:
                session.cancel()
            await asyncio.gather(*self._sessions, return_exceptions=True)
            await listening.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = asyncio.create_task(self._serve(reader, writer))
        self._sessions.add(session)
        session.add_done_callback(self._sessions.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while call := await _read(reader):
                answer = await self._answer(call)
                if answer is None:
                    return
                writer.write(_bytes(answer))
                await writer.drain()
        except ConnectionError:
            pass  # the caller has gone
        finally:
            writer.close()

    async def _answer(self, call: Call) -> Answer | None:
        """None where the caller gets no answer."""
        if call.path.startswith(CONTROL):
            return await self._controlled(call)
        self.calls.append(call)
        begun = self.answering.begin(call)
        try:
            if begun.fault is Fault.HELD:
                await self.answering.faults.hold()
        finally:
            self.answering.end(call, begun)
        return None if begun.fault in HANGS_UP else begun.answer

    async def _controlled(self, call: Call) -> Answer:
        if self.control is None:
            return Answer(HTTPStatus.NOT_FOUND, {})
        try:
            return Answer(HTTPStatus.OK, await self.control(call.path.removeprefix(CONTROL), call.params))
        except (StripeRefusal, ValueError, KeyError) as error:
            return Answer(HTTPStatus.BAD_REQUEST, {"error": f"{type(error).__name__}: {error}"})


async def _read(reader: asyncio.StreamReader) -> Call | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0"))
    if length > MAX_BODY_BYTES:
        return None
    body = (await reader.readexactly(length)).decode()
    address = urlsplit(target)
    return Call(method, address.path, decode(address.query if method == "GET" else body), headers)


def _bytes(answer: Answer) -> bytes:
    body = orjson.dumps(answer.body)
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **answer.headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {int(answer.status)} Answered\r\n{lines}\r\n".encode("latin-1") + body
