"""An OpenAPI document as its page shows it: routes by subject, each with its fields, answers and codes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import orjson

from bursar.billing.values import Value
from bursar.service.web.documents.fields import Field, Json, fields_of, form_of, resolved

PROBLEM = "application/problem+json"


class Answer(Value):
    """What a route answers when it has done what was asked: its status, form, fields and an example."""

    status: str
    form: str
    description: str
    fields: Sequence[Field]
    example: str


class Problems(Value):
    """A status, what its codes mean, and the fields that they bring beside those of every problem."""

    status: str
    codes: str
    fields: Sequence[Field]


class Route(Value):
    """One method of one path."""

    method: str
    path: str
    description: str
    needs_bearer: bool
    parameters: Sequence[Field]
    body: Sequence[Field]
    answers: Sequence[Answer]
    problems: Sequence[Problems]

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


def problem_fields_of(document: Json) -> Sequence[Field]:
    """The fields of every problem."""
    return list(fields_of(document.get("components", {}).get("schemas", {}).get("Problem", {}), document))


def _route(path: str, method: str, described: Json, document: Json) -> Route:
    contents = described.get("requestBody", {}).get("content", {})
    body = [field for content in contents.values() for field in fields_of(content.get("schema", {}), document)]
    answers = sorted(described["responses"].items())
    return Route(
        method,
        path,
        described.get("description", ""),
        bool(described.get("security")),
        [_parameter(one, document) for one in described.get("parameters", ())],
        body,
        [_answer(status, answer, document) for status, answer in answers if not _is_problem(answer)],
        [_problems(status, answer, document) for status, answer in answers if _is_problem(answer)],
    )


def _parameter(one: Json, document: Json) -> Field:
    name = one["name"] if one["in"] == "path" else f"{one['name']} ({one['in']})"
    return Field(name, form_of(one["schema"], document), one.get("required", False), one.get("description", ""))


def _is_problem(answer: Json) -> bool:
    return PROBLEM in answer.get("content", {})


def _answer(status: str, answer: Json, document: Json) -> Answer:
    contents: Mapping[str, Json] = answer.get("content", {})
    form = next(iter(contents), "")
    schema = resolved(contents.get(form, {}).get("schema", {}), document)
    examples = [orjson.dumps(one, option=orjson.OPT_INDENT_2).decode() for one in schema.get("examples", ())]
    return Answer(
        status, form, schema.get("description", ""), list(fields_of(schema, document)), next(iter(examples), "")
    )


def _problems(status: str, answer: Json, document: Json) -> Problems:
    fields = fields_of(answer["content"][PROBLEM]["schema"], document)
    return Problems(status, answer["description"], [field for field in fields if field.name != "code"])
