"""`bursar why USER`: how an account came to stand as it does."""

import asyncio
import json as jsons
from typing import Annotated, Any

import typer

from bursar.billing.values import as_dict
from bursar.db.connections import open_pool
from bursar.service.cli.errors import CommandFailed
from bursar.service.observability.redaction import redact
from bursar.service.operators.explaining import Link, chain_of
from bursar.service.operators.telling import sentence
from bursar.service.processes.starting import require_migrated, wait_for_database
from bursar.service.settings import DatabaseSettings, load_settings

WAIT_SECONDS = 3.0
MAX_LIMIT = 1_000


def why(
    user: Annotated[str, typer.Argument(help="The product's id of the user.")],
    limit: Annotated[int, typer.Option(min=1, max=MAX_LIMIT, help="How many of the newest of each at most.")] = 200,
    *,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell how a user's rows came to be as they are: what happened, why, and what followed; the oldest first."""
    links = asyncio.run(_links(load_settings(DatabaseSettings), user, limit))
    if not links:
        raise CommandFailed("Nothing is recorded of that user.")
    if json:
        typer.echo(jsons.dumps([_fields(link) for link in links], default=str, indent=2))
        return
    for link in links:
        typer.echo(sentence(link))


async def _links(settings: DatabaseSettings, user: str, limit: int) -> list[Link]:
    await wait_for_database(settings.database_url, WAIT_SECONDS)
    async with await open_pool(settings.database_url, max_size=1, name="bursar why") as pool:
        await require_migrated(pool)
        async with pool.acquire() as connection:
            return await chain_of(connection, user, limit)


def _fields(link: Link) -> dict[str, Any]:
    fields: dict[str, Any] = redact({**as_dict(link), "sentence": sentence(link)})
    return fields
