"""Requests and answers against Stripe's own OpenAPI description, where that lies beside the project's folder."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs

from bursar.billing.values import Value
from bursar.service.demo.lives import JsonObject
from bursar.service.stripe_stand_in.forms import Params

DESCRIPTION = Path(__file__).resolve().parents[3] / "shared" / "stripe" / "openapi.json"
FORM = "application/x-www-form-urlencoded"


class Description(Value):
    """The calls and objects of the description, as JSON Schema."""

    paths: JsonObject
    schemas: JsonObject

    def mismatch_of_request(self, method: str, template: str, params: Params) -> str | None:
        """What is wrong with a request's parameters, with the field; None for a good one or an unknown path."""
        operation = self._operation(method, template)
        if operation is None:
            return None
        schema = _query(operation) if method == "GET" else _form(operation)
        return _first_problem(_closed(schema), typed(dict(params), schema), {})

    def mismatch_of_answer(self, method: str, template: str, status: int, answer: JsonObject) -> str | None:
        """What is wrong with an answer, with the field."""
        operation = self._operation(method, template)
        if operation is None:
            return None
        responses = operation["responses"]
        described = responses.get(str(status), responses["default"])
        schema = _json_schema(described["content"]["application/json"]["schema"])
        return _first_problem(schema, answer, self.schemas)

    def mismatch_of_object(self, kind: str, thing: JsonObject) -> str | None:
        """What is wrong with an object, such as an event carries."""
        if kind not in self.schemas:
            return None
        return _first_problem({"$ref": f"#/components/schemas/{kind}"}, thing, self.schemas)

    def _operation(self, method: str, template: str) -> JsonObject | None:
        found: JsonObject | None = self.paths.get(template, {}).get(method.lower())
        return found


@cache
def description() -> Description | None:
    """The description; None where the file is not there, and then nothing is validated."""
    if not DESCRIPTION.exists():
        return None
    read = json.loads(DESCRIPTION.read_bytes())
    return Description(read["paths"], _json_schema(read["components"]["schemas"]))


def typed(value: Any, schema: Mapping[str, Any]) -> Any:
    """What a form sends as text, as the type that the schema names; left as it is where it cannot be one."""
    if "anyOf" in schema:
        readings = [typed(value, one) for one in schema["anyOf"]]
        fitting = (new for new, one in zip(readings, schema["anyOf"], strict=True) if _fits(new, one))
        return next(fitting, value)
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        rest = others if isinstance(others, dict) else {}
        return {name: typed(one, known.get(name, rest)) for name, one in value.items()}
    if isinstance(value, list):
        return [typed(one, schema.get("items", {})) for one in value]
    return _scalar(value, schema.get("type"))


def _scalar(value: Any, wanted: object) -> Any:
    if wanted == "boolean":
        return {"true": True, "false": False}.get(value, value)
    if wanted not in ("integer", "number"):
        return value
    try:
        return int(value) if wanted == "integer" else float(value)
    except ValueError:
        return value


def _query(operation: JsonObject) -> JsonObject:
    asked = [one for one in operation.get("parameters", ()) if one["in"] == "query"]
    return {"type": "object", "properties": {one["name"]: one["schema"] for one in asked}}


def _form(operation: JsonObject) -> JsonObject:
    schema: JsonObject = operation["requestBody"]["content"][FORM]["schema"]
    return schema


def _closed(schema: Any) -> Any:
    """Stripe refuses unknown parameters at every depth; its description says so only at the top."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _closed(one) for name, one in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made


def _json_schema(node: Any) -> Any:
    """OpenAPI 3.0 says `nullable` where JSON Schema says null."""
    if isinstance(node, list):
        return [_json_schema(one) for one in node]
    if not isinstance(node, dict):
        return node
    made = {name: _json_schema(one) for name, one in node.items() if not name.startswith("x-")}
    if made.get("nullable") is True:
        del made["nullable"]
        return {"anyOf": [made, {"type": "null"}]}
    return made


def _fits(value: Any, schema: Mapping[str, Any]) -> bool:
    return _first_problem(_closed(dict(schema)), value, {}) is None


_VALIDATORS: dict[str, jsonschema_rs.Draft4Validator] = {}


def _first_problem(schema: JsonObject, value: Any, schemas: JsonObject) -> str | None:
    key = json.dumps(schema, sort_keys=True)
    if key not in _VALIDATORS:
        whole = {**schema, "components": {"schemas": schemas}}
        _VALIDATORS[key] = jsonschema_rs.Draft4Validator(whole, validate_formats=False)
    problems: Iterator[jsonschema_rs.ValidationError] = _VALIDATORS[key].iter_errors(value)
    return next((f"{'.'.join(map(str, one.instance_path)) or 'the whole'}: {one.message}" for one in problems), None)
