"""A JSON schema as lines to read: a field, its form, whether it must be there."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

import orjson

from bursar.billing.values import Value

Json = Mapping[str, Any]

NOTHING: Json = MappingProxyType({})
MAX_DEPTH = 4  # a description that refers to itself ends there
BOUNDS = (
    ("minimum", "at least {:,}"),
    ("maximum", "at most {:,}"),
    ("minLength", "at least {:,} characters"),
    ("maxLength", "at most {:,} characters"),
)
LARGEST = 2**63 - 1  # a column's own limit tells a caller nothing


class Field(Value):
    """One line. `name` has the path to a field of an object within: `data.object`."""

    name: str
    form: str
    is_required: bool
    description: str


def resolved(schema: Json, document: Json) -> Json:
    """What a `$ref` stands for; the schema itself where it is none."""
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: Json = document
    for part in str(reference).removeprefix("#/").split("/"):
        found = found[unquote(part)]
    return found


def fields_of(schema: Json, document: Json, prefix: str = "", depth: int = 0) -> Iterator[Field]:
    """The fields of an object, those of objects within after each."""
    whole = resolved(schema, document)
    required = whole.get("required", ())
    for name, described in whole.get("properties", {}).items():
        yield Field(prefix + name, form_of(described, document), name in required, described.get("description", ""))
        if depth < MAX_DEPTH:
            for mark, inner in _objects_in(described, document):
                yield from fields_of(inner, document, f"{prefix}{name}{mark}.", depth + 1)


def form_of(schema: Json, document: Json = NOTHING) -> str:
    """What a value may be, in words."""
    schema = resolved(schema, document)
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(form_of(one, document) for one in schema["anyOf"]))
    if "const" in schema:
        return orjson.dumps(schema["const"]).decode().strip('"')
    if "enum" in schema:
        return " | ".join(str(one) for one in schema["enum"])
    words = [_kind_of(schema, document)]
    words += [says.format(schema[key]) for key, says in BOUNDS if key in schema and schema[key] != LARGEST]
    words += [f"as {schema['pattern']}"] if "pattern" in schema else []
    words += [f"default {orjson.dumps(schema['default']).decode()}"] if schema.get("default") is not None else []
    return ", ".join(words)


def _kind_of(schema: Json, document: Json) -> str:
    if schema.get("type") == "array" and schema.get("items"):
        return f"list of {form_of(schema['items'], document)}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"object of {form_of(schema['additionalProperties'], document)}"
    return str(schema.get("format") or schema.get("type", "anything"))


def _objects_in(schema: Json, document: Json) -> Iterator[tuple[str, Json]]:
    """The objects whose fields a value has, and how they are marked in a path: those of a list with `[]`."""
    one = resolved(schema, document)
    for alternative in one.get("anyOf", ()):
        yield from _objects_in(alternative, document)
    if one.get("items"):
        yield from ((f"[]{mark}", inner) for mark, inner in _objects_in(one["items"], document))
    if "properties" in one:
        yield "", one
