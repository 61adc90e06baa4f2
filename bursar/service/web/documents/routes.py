"""An OpenAPI document as its page shows it: routes by subject, each with its fields and codes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bursar.service.web.documents.fields import Field, Json, fields_of, form_of


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, and the codes of the problems that come with it."""

    status: str
    codes: Sequence[str]


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path."""

    method: str
    path: str
    description: str
    needs_bearer: bool
    parameters: Sequence[Field]
    body: Sequence[Field]
    answers: Sequence[Answer]

    @property
    def anchor(self) -> str:
        """Where the page has it."""
        return f"{self.method.lower()}{self.path}".replace("/", "-").replace("{", "").replace("}", "")


def groups_of(document: Json) -> Mapping[str, Sequence[Route]]:
    """The routes by their first tag, in the document's order."""
    groups = defaultdict[str, list[Route]](list)
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            tag = next(iter(described.get("tags", ())), "others")
            groups[tag].append(_route(path, method.upper(), described, document))
    return groups


def _route(path: str, method: str, described: Json, document: Json) -> Route:
    contents = described.get("requestBody", {}).get("content", {})
    body = [field for content in contents.values() for field in fields_of(content.get("schema", {}), document)]
    return Route(
        method,
        path,
        described.get("description", ""),
        bool(described.get("security")),
        [_parameter(one) for one in described.get("parameters", ())],
        body,
        [_answer(status, answer) for status, answer in sorted(described["responses"].items())],
    )


def _parameter(one: Json) -> Field:
    name = one["name"] if one["in"] == "path" else f"{one['name']} ({one['in']})"
    return Field(name, form_of(one["schema"]), one.get("required", False), one.get("description", ""))


def _answer(status: str, answer: Json) -> Answer:
    codes: list[str] = []
    contents: Mapping[str, Any] = answer.get("content", {})
    for content in contents.values():
        codes += content.get("schema", {}).get("properties", {}).get("code", {}).get("enum", ())
    return Answer(status, codes)
