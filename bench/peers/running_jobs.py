"""The job carried by a driver: asyncpg, or psycopg with and without a loop."""

from typing import Any

from bench.peers.job import Row, Statements


async def with_asyncpg(connection: Any, statements: Statements) -> bool:  # noqa: ANN401 - the driver has no types
    """Run them on an asyncpg connection, in the caller's transaction; False for an event that was handled before."""
    answer: Row | None = None
    while True:
        try:
            statement, arguments = statements.send(answer)
        except StopIteration as end:
            return bool(end.value)
        answer = await connection.fetchrow(statement, *arguments)


async def with_psycopg_async(connection: Any, statements: Statements) -> bool:  # noqa: ANN401 - a peer's connection
    """Likewise on an asynchronous psycopg connection."""
    import psycopg  # noqa: PLC0415 - not every peer has it

    answer: Row | None = None
    async with psycopg.AsyncRawCursor(connection, row_factory=psycopg.rows.dict_row) as cursor:
        while True:
            try:
                statement, arguments = statements.send(answer)
            except StopIteration as end:
                return bool(end.value)
            await cursor.execute(statement, arguments)
            answer = await cursor.fetchone() if cursor.description else None


def with_psycopg(connection: Any, statements: Statements) -> bool:  # noqa: ANN401 - a peer's connection
    """Likewise on a psycopg connection."""
    import psycopg  # noqa: PLC0415 - not every peer has it

    answer: Row | None = None
    with psycopg.RawCursor(connection, row_factory=psycopg.rows.dict_row) as cursor:
        while True:
            try:
                statement, arguments = statements.send(answer)
            except StopIteration as end:
                return bool(end.value)
            cursor.execute(statement, arguments)
            answer = cursor.fetchone() if cursor.description else None
