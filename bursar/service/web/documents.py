"""`/asyncapi.json` and a page of it that loads nothing from elsewhere."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import orjson
from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
STYLE = """
body { font: 15px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
pre { background: #f4f4f4; padding: 1rem; overflow: auto }
"""
SECTIONS = ("channels", "operations")
COMPONENTS = ("messages", "schemas")


def documents_router(asyncapi: Mapping[str, Any]) -> APIRouter:
    """The document of the messages, for programs and for people (MS-13)."""
    router = APIRouter(tags=["documents"])
    content, page = orjson.dumps(dict(asyncapi)), asyncapi_page(asyncapi)

    @router.get("/asyncapi.json", response_class=Response)
    async def asyncapi_json() -> Response:
        """Every form of message, as an AsyncAPI document."""
        return Response(content, media_type="application/json")

    @router.get("/asyncapi", response_class=HTMLResponse)
    async def asyncapi_html() -> HTMLResponse:
        """Every form of message, to read."""
        return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})

    return router


def asyncapi_page(document: Mapping[str, Any]) -> str:
    """The document as one HTML page, without scripts and without anything from other hosts."""
    info = document.get("info", {})
    title = escape(f"{info.get('title', 'Messages')} {info.get('version', '')}".strip())
    body = "".join(_sections(document))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head>"
        f"<body><h1>{title}</h1><p>{escape(str(info.get('description', '')))}</p>{body}"
        '<p><a href="/asyncapi.json">The whole document as JSON</a></p></body></html>'
    )


def _sections(document: Mapping[str, Any]) -> Iterator[str]:
    for name in SECTIONS:
        yield from _section(name, document.get(name, {}))
    for name in COMPONENTS:
        yield from _section(name, document.get("components", {}).get(name, {}))


def _section(name: str, entries: Mapping[str, Any]) -> Iterator[str]:
    if entries:
        yield f"<h2>{escape(name.capitalize())}</h2>"
    for entry, value in entries.items():
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
        yield f"<h3>{escape(entry)}</h3><pre>{escape(text)}</pre>"
