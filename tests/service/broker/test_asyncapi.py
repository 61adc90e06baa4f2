from typing import Any

import pytest

from bursar.handlers.messages import HANDLERS
from bursar.service.broker.asyncapi import asyncapi_document


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return asyncapi_document()


def test_ms_13_every_form_is_documented_with_its_headers(document: dict[str, Any]) -> None:
    assert document["asyncapi"].startswith("3.")
    assert set(document["components"]["schemas"]) >= {"StripeEvent", "Tick", "PartitionTick"}
    assert len(document["operations"]) == 3
    for message in document["components"]["messages"].values():
        assert {"account", "occurred_at", "traceparent", "schema"} <= set(message["headers"]["properties"])


def test_ms_13_every_type_that_is_handled_is_named(document: dict[str, Any]) -> None:
    text = str(document)
    assert [name for name in HANDLERS if name not in text] == []


def test_ms_14_the_document_holds_no_address_of_ours(document: dict[str, Any]) -> None:
    assert "guest" not in str(document)
