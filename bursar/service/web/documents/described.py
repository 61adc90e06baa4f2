"""The app's OpenAPI document, with the form of its errors."""

from typing import Any

from fastapi import FastAPI

from bursar.service.web.answers.problems import Problem

REFERENCE = "#/components/schemas/{model}"


class DescribedApp(FastAPI):
    """An app whose routes name `Problem`, which is no model of any one answer."""

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        document = super().openapi()
        form = Problem.model_json_schema(ref_template=REFERENCE)
        document["components"]["schemas"].update(form.pop("$defs"), Problem=form)
        return document
