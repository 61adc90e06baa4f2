import socket
from collections.abc import AsyncIterator

import httpx
import pytest

from bursar.billing.errors import Permanent
from bursar.service.gateways.instances import (
    MAX_BODY_BYTES,
    CallOutcome,
    CallResult,
    DesiredState,
    InstancesGateway,
    classify,
    instances_client,
)
from tests.service.gateways.fake_http import FakeHttp, Reply, Request

SECRET = "bearer-made-up"

DONE, RETRY, SUPERSEDED = CallOutcome.DONE, CallOutcome.RETRY, CallOutcome.SUPERSEDED


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with instances_client() as client:
        yield client


async def asked(
    server: FakeHttp, client: httpx.AsyncClient, desired: DesiredState = "stopped", instance_id: str = "ins-1"
) -> CallResult:
    gateway = InstancesGateway(server.url + "/", SECRET, client=client, total_seconds=5)
    return await gateway.bring_about(instance_id, desired, 7, "instance:ins-1:7")


@pytest.mark.parametrize("desired", ["running", "stopped", "destroyed"])
@pytest.mark.parametrize("status", [200, 202, 204])
def test_kc_77_success_is_done(desired: DesiredState, status: int) -> None:
    assert classify(desired, status) is DONE


@pytest.mark.parametrize(
    ("desired", "status", "outcome"),
    [
        ("stopped", 404, DONE),
        ("stopped", 409, DONE),
        ("destroyed", 404, DONE),
        ("destroyed", 409, RETRY),
        ("destroyed", 410, RETRY),
    ],
)
def test_kc_77_which_refusals_count_as_done(desired: DesiredState, status: int, outcome: CallOutcome) -> None:
    assert classify(desired, status) is outcome


def test_kc_92_a_start_is_done_on_success_only() -> None:
    not_done = [status for status in range(300, 600) if status != 412]
    assert {classify("running", status) for status in not_done} == {RETRY}


@pytest.mark.parametrize("desired", ["running", "stopped", "destroyed"])
def test_kc_91_a_refused_generation_is_superseded_and_nothing_else_is(desired: DesiredState) -> None:
    assert [status for status in range(100, 600) if classify(desired, status) is SUPERSEDED] == [412]


@pytest.mark.parametrize(
    ("desired", "method", "path"),
    [
        ("running", "POST", "/instances/ins-1/start"),
        ("stopped", "POST", "/instances/ins-1/stop"),
        ("destroyed", "DELETE", "/instances/ins-1"),
    ],
)
async def test_kc_91_every_call_carries_bearer_key_and_generation(
    client: httpx.AsyncClient, desired: DesiredState, method: str, path: str
) -> None:
    async with FakeHttp(Reply(204, b"")).running() as server:
        assert await asked(server, client, desired) == CallResult(DONE)
    [request] = server.requests
    assert (request.method, request.target) == (method, path)
    assert told(request) == (f"Bearer {SECRET}", "instance:ins-1:7", "7")


def told(request: Request) -> tuple[str, str, str]:
    return request.headers["authorization"], request.headers["idempotency-key"], request.headers["x-generation"]


async def test_an_instance_id_stays_one_segment_of_the_path(client: httpx.AsyncClient) -> None:
    async with FakeHttp(Reply()).running() as server:
        await asked(server, client, "destroyed", "../a?b#c/ü")
    assert server.requests[0].target == "/instances/..%2Fa%3Fb%23c%2F%C3%BC"


@pytest.mark.parametrize("instance_id", ["", ".", ".."])
async def test_an_instance_id_that_names_another_resource_is_never_sent(
    client: httpx.AsyncClient, instance_id: str
) -> None:
    async with FakeHttp(Reply()).running() as server:
        with pytest.raises(Permanent):
            await asked(server, client, "destroyed", instance_id)
    assert server.requests == []


@pytest.mark.parametrize("status", [400, 401, 403, 408, 429, 500, 502, 503])
async def test_kc_77_other_refusals_are_tried_again_and_ms_11_when_the_server_wishes(
    client: httpx.AsyncClient, status: int
) -> None:
    async with FakeHttp(Reply(status, headers={"Retry-After": "17"})).running() as server:
        result = await asked(server, client)
    assert result == CallResult(RETRY, error=f"http_{status}", retry_after_seconds=17.0)


async def test_a_redirect_is_not_followed(client: httpx.AsyncClient) -> None:
    async with FakeHttp(Reply(307, headers={"Location": "/elsewhere"})).running() as server:
        result = await asked(server, client)
    assert result == CallResult(RETRY, error="http_307")
    assert len(server.requests) == 1


@pytest.mark.parametrize("reply", [Reply(hangs=True), Reply(body=b" " * 50, drips=True)])
async def test_a_server_that_does_not_answer_in_time_is_tried_again(client: httpx.AsyncClient, reply: Reply) -> None:
    async with FakeHttp(reply).running() as server:
        gateway = InstancesGateway(server.url, SECRET, client=client, total_seconds=0.05)
        result = await gateway.bring_about("ins-1", "stopped", 7, "key")
    assert result == CallResult(RETRY, error="TimeoutError")


async def test_a_server_that_is_down_is_tried_again(client: httpx.AsyncClient) -> None:
    gateway = InstancesGateway(f"http://127.0.0.1:{unused_port()}", SECRET, client=client)
    result = await gateway.bring_about("ins-1", "stopped", 7, "key")
    assert result == CallResult(RETRY, error="ConnectError")


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_ms_14_a_body_is_bounded_and_told_nowhere(client: httpx.AsyncClient) -> None:
    async with FakeHttp(Reply(500, b"ann@example.test " * MAX_BODY_BYTES)).running() as server:
        result = await asked(server, client)
    assert "ann" not in repr(result)
    assert SECRET not in repr(result)


async def test_a_connection_serves_again_after_a_body_within_bounds(client: httpx.AsyncClient) -> None:
    async with FakeHttp(Reply(200, b"x" * 1000)).running() as server:
        for _ in range(3):
            await asked(server, client)
    assert server.connections == 1


async def test_a_longer_body_costs_its_connection(client: httpx.AsyncClient) -> None:
    async with FakeHttp(Reply(200, b"x" * (MAX_BODY_BYTES * 8))).running() as server:
        assert await asked(server, client) == CallResult(DONE)
        assert await asked(server, client) == CallResult(DONE)
    assert server.connections == 2
