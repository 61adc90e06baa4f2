"""The stand-in as a process of its own."""

import asyncio
import json
import sys
from pathlib import Path

import httpx

from bursar.billing.stripe.objects import API_VERSION

PROJECT = Path(__file__).parents[2]
HEADERS = {"Authorization": "Bearer sk_test_madeup", "Stripe-Version": API_VERSION}


async def test_it_tells_its_address_obeys_over_http_and_ends_with_its_parent() -> None:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.stripe", "--now", "1770000000", stdin=pipe, stdout=pipe, cwd=PROJECT
    )
    assert process.stdin is not None
    assert process.stdout is not None
    async with asyncio.timeout(30):
        url = json.loads(await process.stdout.readline())["url"]
        async with httpx.AsyncClient(base_url=url, headers=HEADERS) as http:
            made = (await http.post("/v1/customers", data={"metadata[userId]": "user-1"})).json()
            assert made["metadata"] == {"userId": "user-1"}
            assert (await http.post("/stand-in/advance", data={"to": 1780000000})).json() == {"now": 1780000000}
            assert (await http.post("/stand-in/advance", data={"to": 1})).status_code == 400
            calls = (await http.post("/stand-in/calls")).json()
            assert [(call["method"], call["path"]) for call in calls["calls"]] == [("POST", "/v1/customers")]
        process.stdin.close()
        assert await process.wait() == 0
