"""The pages that describe the service to those who call it: `/docs` its routes, `/asyncapi` its messages (MS-13)."""

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from bursar.service.web.documents.messages import channels_of
from bursar.service.web.documents.routes import groups_of, problem_fields_of

# The pages load nothing: no scripts, nothing from other hosts.
HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
ASYNCAPI = {"type": "object", "description": "An AsyncAPI 3.0 document."}


def _with_code(text: str) -> Markup:
    """What stands between backticks, as code."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(one) if at % 2 else one for at, one in enumerate(parts))


_TEMPLATES = Environment(
    loader=PackageLoader("bursar.service.web.documents"),
    autoescape=select_autoescape(enabled_extensions=("html.j2",)),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters["with_code"] = _with_code


def documents_router(asyncapi: Mapping[str, Any]) -> APIRouter:
    """Both descriptions to read, and that of the messages for programs; FastAPI serves `/openapi.json` itself."""
    router = APIRouter(tags=["documents"])
    content, messages = orjson.dumps(dict(asyncapi)), asyncapi_page(asyncapi)

    @router.get("/docs", response_class=HTMLResponse)
    async def openapi_html(request: Request) -> HTMLResponse:
        """Every route with its fields and codes, to read."""
        return HTMLResponse(openapi_page(request.app.openapi()), headers=HEADERS)

    @router.get(
        "/asyncapi.json",
        response_class=Response,
        responses={
            200: {"content": {"application/json": {"schema": {"type": "object", "description": "AsyncAPI 3.0."}}}}
        },
    )
    async def asyncapi_json() -> Response:
        """Every form of message, as an AsyncAPI document."""
        return Response(content, media_type="application/json")

    @router.get("/asyncapi", response_class=HTMLResponse)
    async def asyncapi_html() -> HTMLResponse:
        """Every form of message, to read."""
        return HTMLResponse(messages, headers=HEADERS)

    return router


def openapi_page(document: Mapping[str, Any]) -> str:
    """An OpenAPI document as one HTML page."""
    return _TEMPLATES.get_template("routes.html.j2").render(
        info=document["info"], groups=groups_of(document), problem_fields=problem_fields_of(document)
    )


def asyncapi_page(document: Mapping[str, Any]) -> str:
    """An AsyncAPI 3.0 document as one HTML page."""
    return _TEMPLATES.get_template("messages.html.j2").render(
        info=document.get("info", {}), channels=channels_of(document)
    )
