"""The pages for those who call the service: whole, and loading nothing from elsewhere (MS-13)."""

import re
from typing import Any

import pytest

from bursar.service.broker.asyncapi import asyncapi_document
from bursar.service.web.documents import asyncapi_page
from bursar.service.web.documents.fields import fields_of, form_of
from bursar.service.web.documents.routes import groups_of
from tests.service.web.serving import Served

ELSEWHERE = re.compile(r"(?:src|href)=\"(?![/#])|<script|@import|url\(")


@pytest.mark.parametrize("path", ["/docs", "/asyncapi"])
async def test_ms_13_the_pages_load_nothing_from_elsewhere(web: Served, path: str) -> None:
    page = await web.client.get(path)
    assert page.status_code == 200
    assert not ELSEWHERE.findall(page.text)
    assert "default-src 'none'" in page.headers["content-security-policy"]


async def test_ms_13_every_route_is_on_the_page_with_its_fields_and_codes(web: Served) -> None:
    page = (await web.client.get("/docs")).text
    document = (await web.client.get("/openapi.json")).json()
    for path, methods in document["paths"].items():
        for method in methods:
            assert f'<span class="method">{method.upper()}</span>{path}</code>' in page
    for code in ("already_subscribed", "insufficient_credits", "invalid_signature"):
        assert f"<code>{code}</code>" in page
    assert "success_url" in page
    assert "standard | commit" in page


async def test_ms_13_routes_stand_by_their_subject(web: Served) -> None:
    groups = groups_of((await web.client.get("/openapi.json")).json())
    assert {"webhooks", "users", "kiloclaw", "credits", "ticks", "operators", "health"} <= set(groups)
    [enroll] = [route for route in groups["credits"] if route.path.endswith("/enroll")]
    assert (enroll.needs_bearer, [field.name for field in enroll.body]) == (True, ["plan", "instance_id"])
    anchors = [route.anchor for routes in groups.values() for route in routes]
    assert len(anchors) == len(set(anchors))


async def test_ms_13_a_route_shows_what_comes_back(web: Served) -> None:
    groups = groups_of((await web.client.get("/openapi.json")).json())
    [status] = [route for route in groups["kiloclaw"] if route.path.endswith("/status")]
    [answer] = status.answers
    forms = {field.name: field.form for field in answer.fields}
    assert (answer.status, forms["trial"], forms["trial.endsAt"]) == ("200", "object or null", "date-time")
    assert '"lockReason": null' in answer.example

    [listed] = next(route for route in groups["credits"] if route.path.endswith("/transactions")).answers
    assert {field.name: field.form for field in listed.fields}["entries[].amount_microdollars"] == "integer"
    enroll = next(route for route in groups["credits"] if route.path.endswith("/enroll"))
    [short] = [one for one in enroll.problems if one.status == "402"]
    assert "`insufficient_credits`: The balance is too low." in short.codes
    assert "shortfall_microdollars" in [field.name for field in short.fields]

    page = (await web.client.get("/docs")).text
    for text in ("entries[].business_key", "shortfall_microdollars", "&#34;lockReason&#34;: null", "errors[].field"):
        assert text in page


def test_ms_13_every_form_of_message_is_on_the_page() -> None:
    page = asyncapi_page(asyncapi_document())
    for text in ("bursar.accounts", "bursar.ticks", "p00 ... p31", "stripe.invoice.paid", "traceparent", "due_at"):
        assert text in page
    assert "<code>data.object</code>" in page.replace(' class="needed"', "")


def test_what_a_document_says_is_text_on_the_page() -> None:
    page = asyncapi_page({"info": {"title": "Bursar <messages>", "version": "1", "description": "<i>`<b>`"}})
    assert "Bursar &lt;messages&gt;" in page
    assert "&lt;i&gt;<code>&lt;b&gt;</code>" in page


@pytest.mark.parametrize(
    ("schema", "form"),
    [
        ({"type": "string"}, "string"),
        ({"type": "string", "format": "date-time"}, "date-time"),
        (
            {"type": "integer", "minimum": 1, "maximum": 200, "default": 50},
            "integer, at least 1, at most 200, default 50",
        ),
        ({"type": "integer", "minimum": 1, "maximum": 2**63 - 1}, "integer, at least 1"),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, "boolean or null"),
        ({"enum": ["standard", "commit"], "type": "string"}, "standard | commit"),
        ({"type": "string", "maxLength": 5, "pattern": "^a$"}, "string, at most 5 characters, as ^a$"),
        ({"type": "array", "items": {"type": "integer"}}, "list of integer"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "object of integer"),
        ({"type": "boolean", "const": True}, "true"),
        ({}, "anything"),
    ],
)
def test_the_form_of_a_value_in_words(schema: dict[str, Any], form: str) -> None:
    assert form_of(schema) == form


def test_a_schema_that_refers_to_itself_ends() -> None:
    document = {"components": {"schemas": {"Node": {"properties": {"next": {"$ref": "#/components/schemas/Node"}}}}}}
    fields = list(fields_of({"$ref": "#/components/schemas/Node"}, document))
    assert [field.name for field in fields] == [
        "next",
        "next.next",
        "next.next.next",
        "next.next.next.next",
        "next.next.next.next.next",
    ]
