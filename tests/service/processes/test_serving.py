import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from bursar.service.processes.serving import HttpServer
from bursar.service.processes.starting import StartError, wait_for_broker, wait_for_database


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
        except httpx.TimeoutException:
            continue


async def test_a_taken_port_stops_the_start_with_the_variable() -> None:
    first = HttpServer(Starlette(), "127.0.0.1", 0, drain_seconds=1, port_variable="PORT")
    port = int(first.url.rpartition(":")[2])
    with pytest.raises(StartError, match="BURSAR_WEB_PORT"):
        HttpServer(Starlette(), "127.0.0.1", port, drain_seconds=1, port_variable="BURSAR_WEB_PORT")
    first.close()


async def test_a_silent_database_stops_the_start() -> None:
    with pytest.raises(StartError, match="DATABASE_URL: PostgreSQL did not answer within 0 s"):
        await wait_for_database("postgresql://u:p@127.0.0.1:9/d", 0.1)


async def test_a_silent_broker_stops_the_start() -> None:
    with pytest.raises(StartError, match="AMQP_URL: RabbitMQ did not answer within 0 s"):
        await wait_for_broker("amqp://u:p@127.0.0.1:9/", 0.1)


async def test_a_database_that_refuses_us_stops_the_start_at_once(database_url: str) -> None:
    with pytest.raises(StartError, match="refused the connection"):
        await wait_for_database(database_url + "_of_nobody", 3600)


async def test_a_broker_that_refuses_us_stops_the_start_at_once(amqp_url: str) -> None:
    with pytest.raises(StartError, match="AMQP_URL: RabbitMQ refused"):
        await wait_for_broker(amqp_url.replace("://", "://nobody:"), 3600)


async def test_servers_that_answer_let_it_start(database_url: str, amqp_url: str) -> None:
    await wait_for_database(database_url)
    await wait_for_broker(amqp_url)
