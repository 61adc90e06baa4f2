"""Stripe's answers as a scripted server gives them."""

import json
from typing import Any

from tests.service.gateways.fake_http import Reply

KEY = "sk_test_madeup1234567890"


def subscription(number: int = 1, **fields: Any) -> dict[str, Any]:
    item = {"object": "subscription_item", "id": f"si_{number}", "price": {"id": "price_1", "object": "price"}}
    bounds = {"current_period_start": 1782864000, "current_period_end": 1785542400}
    return {
        "id": f"sub_{number}",
        "object": "subscription",
        "status": "active",
        "customer": "cus_1",
        "metadata": {"type": "kiloclaw", "userId": "user-1"},
        "items": {"object": "list", "has_more": False, "url": "/v1/subscription_items", "data": [item | bounds]},
        **fields,
    }


def answer(**fields: Any) -> Reply:
    return Reply(body=json.dumps(fields).encode())


def listing(*objects: dict[str, Any], has_more: bool = False) -> Reply:
    return answer(object="list", url="/v1/things", data=list(objects), has_more=has_more)


def page(*numbers: int, has_more: bool = False) -> Reply:
    return listing(*(subscription(number) for number in numbers), has_more=has_more)


def refusal(status: int, *, headers: dict[str, str] | None = None, **error: str) -> Reply:
    body = json.dumps({"error": {"type": "invalid_request_error", **error}}).encode()
    return Reply(status, body, {"Request-Id": "req_1", **(headers or {})})


def missing(param: str, message: str = "No such customer: 'cus_1'", status: int = 400) -> Reply:
    return refusal(status, code="resource_missing", param=param, message=message)
