"""A way to a server that can be cut."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit


class Proxy:
    """Passes bytes on; `cut` ends every connection that it carries, as a server's restart does. Those with a number in
    `refused`, counted from 1, are ended at once.
    """

    def __init__(self, url: str, refused: Collection[int] = ()) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname, address.port
        self._writers: set[asyncio.StreamWriter] = set()
        self._refused = refused
        self.carried = 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.carried += 1
        if self.carried in self._refused:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        self._writers |= {writer, far_writer}
        await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))

    def cut(self) -> None:
        while self._writers:
            self._writers.pop().transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def proxied(url: str, refused: Collection[int] = ()) -> AsyncIterator[tuple[str, Proxy]]:
    """The address of a proxy in front of the server, and the proxy."""
    proxy = Proxy(url, refused)
    server = await asyncio.start_server(proxy.carry, "127.0.0.1", 0)
    address = urlsplit(url)
    login = address.netloc.rpartition("@")[0]
    port = server.sockets[0].getsockname()[1]
    try:
        yield urlunsplit(address._replace(netloc=f"{login}@127.0.0.1:{port}")), proxy
    finally:
        server.close()
        proxy.cut()
