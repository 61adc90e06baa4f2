"""What every stand-in does: serve on 127.0.0.1, tell its ports in one line, and end with its parent."""

import argparse
import asyncio
import contextlib
import hmac
import json
import os
import socket
import threading
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request

LOOPBACK = "127.0.0.1"
BACKLOG = 256
STANDARD_INPUT = 0
SHUTDOWN_SECONDS = 2


class _AnnouncedServer(uvicorn.Server):
    """Prints its ports once it accepts connections."""

    def __init__(self, config: uvicorn.Config, ports: dict[str, int]) -> None:
        super().__init__(config)
        self._ports = ports

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(json.dumps(self._ports), flush=True)  # noqa: T201 - the parent reads it


def listen(port: int) -> socket.socket:
    """A listening socket on the loopback address; port 0 takes any free one."""
    # Without the protocol's number asyncio leaves Nagle's algorithm on, and an answer waits 40 ms for its last packet.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((LOOPBACK, port))
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def port_of(listening: socket.socket) -> int:
    port: int = listening.getsockname()[1]
    return port


async def serve_until_orphaned(app: Starlette, http: socket.socket, ports: dict[str, int] | None = None) -> None:
    """Serve until SIGTERM, SIGINT or the end of standard input, which is when the parent is gone."""
    config = uvicorn.Config(
        app, lifespan="off", log_level="warning", access_log=False, timeout_graceful_shutdown=SHUTDOWN_SECONDS
    )
    server = _AnnouncedServer(config, {"http": port_of(http), **(ports or {})})
    _when_standard_input_ends(asyncio.get_running_loop(), lambda: setattr(server, "should_exit", True))
    await server.serve(sockets=[http])


def _when_standard_input_ends(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
    def wait() -> None:
        # The descriptor itself: a thread inside a buffered reader would abort the interpreter when it ends.
        while os.read(STANDARD_INPUT, 1024):
            pass
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server ended by itself
            loop.call_soon_threadsafe(act)

    # A daemon thread, since a read of standard input cannot be interrupted.
    threading.Thread(target=wait, daemon=True).start()


def port_parser(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port", type=int, default=0, help="HTTP port on 127.0.0.1; 0 takes any free one")
    return parser


def has_bearer(request: Request, secret: str) -> bool:
    """Whether the request carries this bearer token."""
    return hmac.compare_digest(request.headers.get("Authorization", "").encode(), f"Bearer {secret}".encode())
