"""The app's OpenAPI document, with the form of its errors."""

from typing import Any

from fastapi import FastAPI

from bursar.service.web.answers.problems import Problem


class DescribedApp(FastAPI):
    """An app whose routes name `Problem`, which is no model of any one answer."""

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        document = super().openapi()
        document["components"]["schemas"].setdefault("Problem", Problem.model_json_schema())
        return document
