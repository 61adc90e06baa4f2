"""An HTTP server on an ephemeral port that answers by a script and remembers what it was asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from bursar.billing.values import Value, field


class Request(Value):
    method: str
    target: str
    headers: dict[str, str]  # names in lower case
    body: bytes = b""


class Reply(Value):
    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    hangs: bool = False
    hangs_up: bool = False  # takes the request and closes the connection
    drips: bool = False  # one byte of the body every 20 ms


class FakeHttp:
    """Gives its replies in order, the last one again and again."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.requests: list[Request] = []
        self.connections = 0
        self.url = ""
        self._closing = asyncio.Event()
        self._sessions: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FakeHttp"]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            self._closing.set()
            server.close()
            await server.wait_closed()
            for session in self._sessions:
                session.cancel()
            await asyncio.gather(*self._sessions, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._sessions.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await _read(reader):
                self.requests.append(request)
                reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                if reply.hangs_up:
                    return
                await self._answer(reply, writer)
        except ConnectionError:
            pass  # the client has read enough
        finally:
            writer.close()

    async def _answer(self, reply: Reply, writer: asyncio.StreamWriter) -> None:
        if reply.hangs:
            await self._closing.wait()
        whole = _bytes(reply)
        at_once = len(whole) - len(reply.body) if reply.drips else len(whole)
        writer.write(whole[:at_once])
        for byte in whole[at_once:]:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), 0.02)
            writer.write(bytes([byte]))
        await writer.drain()


async def _read(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, target, headers, body)


def _bytes(reply: Reply) -> bytes:
    headers = {"Content-Length": str(len(reply.body)), **reply.headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {reply.status} Scripted\r\n{lines}\r\n".encode("latin-1") + reply.body
