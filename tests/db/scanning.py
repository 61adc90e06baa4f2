"""Looking for a text in every table, whatever its columns."""

import asyncpg

from bursar.db.connections import Connection


async def tables_holding(connection: Connection | asyncpg.Connection, *texts: str) -> set[str]:
    """`table.column` of every text, jsonb and bytea column in which one of the texts stands somewhere."""
    columns = await connection.fetch(
        """
        SELECT table_name, column_name, data_type FROM information_schema.columns
        WHERE table_schema = 'public' AND data_type IN ('text', 'jsonb', 'bytea', 'character varying', 'uuid')
        """
    )
    found = set()
    for table, column, kind in columns:
        shown = f"encode({column}, 'escape')" if kind == "bytea" else f"{column}::text"
        query = f"SELECT EXISTS (SELECT FROM {table} WHERE {shown} LIKE ANY($1::text[]))"  # noqa: S608 - names of columns
        if await connection.fetchval(query, [f"%{text}%" for text in texts]):
            found.add(f"{table}.{column}")
    return found
