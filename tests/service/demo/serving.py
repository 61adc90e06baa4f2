"""Serves an application on a free port of this process for a block."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette

from bursar.service.demo.standing_in import LOOPBACK, listen, port_of


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.serving = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.serving.set()


@asynccontextmanager
async def serving(app: Starlette, limit_seconds: float = 60) -> AsyncIterator[str]:
    """The address of the running application."""
    server = _Server(uvicorn.Config(app, lifespan="off", log_level="warning", access_log=False))
    with listen(0) as listening:
        async with asyncio.timeout(limit_seconds), asyncio.TaskGroup() as group:
            group.create_task(server.serve(sockets=[listening]))
            await server.serving.wait()
            try:
                yield f"http://{LOOPBACK}:{port_of(listening)}"
            finally:
                server.should_exit = True
