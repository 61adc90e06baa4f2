import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from bursar.service.processes.serving import HttpServer
from bursar.service.processes.starting import StartError


class SlowApp:
    """Answers once it is let go."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.let_go = asyncio.Event()
        self.app = Starlette(routes=[Route("/", self.answer)])

    async def answer(self, request: Request) -> PlainTextResponse:  # noqa: ARG002 - a route's signature
        self.asked.set()
        await self.let_go.wait()
        return PlainTextResponse("done")


async def test_ms_12_a_stop_lets_a_request_finish_and_takes_no_more() -> None:
    slow, stop = SlowApp(), asyncio.Event()
    server = HttpServer(slow.app, "127.0.0.1", 0, drain_seconds=30, port_variable="PORT")
    serving = asyncio.create_task(server.run(stop))
    async with httpx.AsyncClient(base_url=server.url) as client:
        answer = asyncio.create_task(client.get("/"))
        async with asyncio.timeout(30):
            await slow.asked.wait()
            stop.set()
            await _refused(server.url)
            slow.let_go.set()
            assert (await answer).text == "done"
            await serving


async def _refused(url: str) -> None:
    """Return once nothing listens there."""
    while True:
        try:
            async with httpx.AsyncClient() as client:
                await client.get(url, timeout=0.2)
        except httpx.ConnectError:
            return
        except (httpx.TimeoutException, httpx.RemoteProtocolError):
            continue  # still listening, or connected in the instant of the stop and closed unanswered


async def test_a_taken_port_stops_the_start_with_the_variable() -> None:
    first = HttpServer(Starlette(), "127.0.0.1", 0, drain_seconds=1, port_variable="PORT")
    port = int(first.url.rpartition(":")[2])
    with pytest.raises(StartError, match="BURSAR_WEB_PORT"):
        HttpServer(Starlette(), "127.0.0.1", port, drain_seconds=1, port_variable="BURSAR_WEB_PORT")
    first.close()
