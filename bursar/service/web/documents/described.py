"""The app's OpenAPI document, with the forms of answers and errors by their names."""

from collections.abc import Iterator
from typing import Any

import orjson
from fastapi import FastAPI

from bursar.service.web.answers import NAME
from bursar.service.web.answers.problems import Problem

REFERENCE = "#/components/schemas/{model}"


class DescribedApp(FastAPI):
    """An app whose answers are mappings with a named form, and whose errors are problems."""

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        if self.openapi_schema is None:
            document = super().openapi()
            named = document["components"]["schemas"]
            for content in _contents_of(document):
                if NAME in content["schema"]:
                    _name(content, named)
            form = Problem.model_json_schema(ref_template=REFERENCE)
            named.update(form.pop("$defs"), Problem=form)
        return super().openapi()


def _contents_of(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for methods in document["paths"].values():
        for operation in methods.values():
            for response in operation["responses"].values():
                yield from response.get("content", {}).values()


def _name(content: dict[str, Any], named: dict[str, Any]) -> None:
    schema = content["schema"]
    name = schema.pop(NAME)
    if "$ref" not in schema:
        examples = [orjson.loads(text) for text in schema.pop("examples", ())]
        named[name] = schema | {"title": name} | ({"examples": examples} if examples else {})
        content["schema"] = {"$ref": REFERENCE.format(model=name)}
