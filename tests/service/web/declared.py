"""Every answer of the served app against the app's own OpenAPI document, so that the two cannot part."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jsonschema_rs
import orjson
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

# Codes that any route may answer: the document says so once.
ANYWHERE = frozenset({"method_not_allowed", "bad_request", "unavailable"})
PROBLEM = "application/problem+json"
EXTENDED = frozenset({"Problem"})  # some codes bring further fields: those that the route declares

Json = Mapping[str, Any]


@dataclass
class _Description:
    """The app's document, made once for all apps: their routes are the same."""

    document: dict[str, Any] = field(default_factory=dict)
    validators: dict[tuple[str, ...], jsonschema_rs.Draft202012Validator] = field(default_factory=dict)

    def of(self, app: FastAPI) -> dict[str, Any]:
        self.document = self.document or app.openapi()
        return self.document


_DESCRIPTION = _Description()


@dataclass
class DeclaredAnswers:
    """The app, and what its answers were; an answer that is not as declared fails the test that asked for it."""

    app: FastAPI
    seen: set[tuple[str, str, int]] = field(default_factory=set)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the app does, and then compare."""
        messages: list[Message] = []

        async def remembering(message: Message) -> None:
            messages.append(message)
            await send(message)

        await self.app(scope, receive, remembering)
        path = getattr(scope.get("route"), "path", None)
        if scope["type"] == "http" and path and messages:
            self._compare(scope["method"], path, messages)

    def _compare(self, method: str, path: str, messages: list[Message]) -> None:
        status = int(messages[0]["status"])
        media_type = dict(messages[0]["headers"]).get(b"content-type", b"").decode().partition(";")[0]
        body = b"".join(message.get("body", b"") for message in messages[1:])
        self.seen.add((method, path, status))
        found = mismatch(_DESCRIPTION.of(self.app), method, path, status, media_type, body)
        assert found is None, f"{method} {path} answers {status} otherwise than declared: {found}"


def mismatch(document: Json, method: str, path: str, status: int, media_type: str, body: bytes) -> str | None:
    """What is wrong with an answer; None for a good one, or one of a path that the document leaves out."""
    operation = document["paths"].get(path, {}).get(method.lower())
    if operation is None:
        return None
    if media_type == PROBLEM and orjson.loads(body)["code"] in ANYWHERE:
        return None
    schema = operation["responses"].get(str(status), {}).get("content", {}).get(media_type, {}).get("schema")
    if schema is None:
        return f"nothing is declared as {media_type}"
    if not media_type.endswith("json"):
        return None
    problems = _validator(document, schema, (method, path, str(status))).iter_errors(orjson.loads(body))
    return next((f"{'.'.join(map(str, one.instance_path)) or 'the whole'}: {one.message}" for one in problems), None)


def closed(schema: Any) -> Any:
    """The schema with no further field allowed anywhere: an answer must not say what is not declared."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: one if name in {"examples", "example"} else closed(one) for name, one in schema.items()}
    if "properties" in schema or "allOf" in schema:
        made.setdefault("unevaluatedProperties", False)
    return made


def examples_of(document: Json) -> Iterator[tuple[str, Json, Any]]:
    """The examples of the named schemas, each with its schema."""
    for name, schema in document["components"]["schemas"].items():
        for example in schema.get("examples", ()):
            yield name, schema, example


def _validator(document: Json, schema: Json, key: tuple[str, ...]) -> jsonschema_rs.Draft202012Validator:
    known = _DESCRIPTION.validators
    if key not in known:
        known[key] = strict(document, schema)
    return known[key]


def strict(document: Json, schema: Json) -> jsonschema_rs.Draft202012Validator:
    """A validator that looks at formats too, and takes no further field."""
    schemas = document["components"]["schemas"]
    named = {name: one if name in EXTENDED else closed(one) for name, one in schemas.items()}
    whole = {**closed(schema), "components": {"schemas": named}}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
