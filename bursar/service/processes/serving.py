"""Serves an ASGI application as one part of a process."""

import asyncio
import socket
from collections.abc import Generator
from contextlib import contextmanager

import structlog
import uvicorn
from starlette.types import ASGIApp

from bursar.service.processes.starting import StartError

log = structlog.get_logger()

BACKLOG_CONNECTIONS = 1_024
KEEP_ALIVE_SECONDS = 75


class _Server(uvicorn.Server):
    """Leaves the signals to the process."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class HttpServer:
    """Listens from its construction on, so that a taken port stops the start."""

    def __init__(self, app: ASGIApp, host: str, port: int, *, drain_seconds: float, port_variable: str) -> None:
        self._app = app
        self._drain_seconds = drain_seconds
        self._socket: socket.socket | None = listen(host, port, port_variable)
        self._address: tuple[str, int] = self._socket.getsockname()[:2]

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self._address[0]}:{self._address[1]}"

    def close(self) -> None:
        """Stop listening where it never ran."""
        if self._socket:
            self._socket.close()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop`, then finish the requests under way within the grace."""
        listening = self._socket or socket.create_server(self._address, backlog=BACKLOG_CONNECTIONS)
        self._socket = None  # uvicorn closes it: a restart listens anew
        server = _Server(
            uvicorn.Config(
                self._app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=max(1, int(self._drain_seconds)),
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        stopping = asyncio.create_task(stop.wait())
        log.info("listening", url=self.url)
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            server.should_exit = True
            await serving
        finally:
            stopping.cancel()
            serving.cancel()
            listening.close()


def listen(host: str, port: int, port_variable: str) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises `StartError`, which names the variable."""
    try:
        return socket.create_server((host, port), backlog=BACKLOG_CONNECTIONS)
    except OSError as error:
        raise StartError(f"{port_variable}: it is not possible to listen there ({error.strerror}).") from None
