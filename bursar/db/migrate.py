"""Applies the plain SQL files of `migrations/` in their order; safe to run from several processes at once."""

from pathlib import Path

import asyncpg
from pogo_core.util import migrate as pogo
from pogo_core.util import sql

from bursar.db.connections import Connection

MIGRATIONS = Path(__file__).parent / "migrations"
ADVISORY_LOCK = 7_208_001  # one migration at a time per database


async def migrate(database_url: str) -> None:
    """Bring the database to the newest migration; does nothing where it is there already."""
    connection = await asyncpg.connect(database_url, timeout=10)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", ADVISORY_LOCK)
        await pogo.apply(connection, MIGRATIONS, schema_name="public")
    finally:
        await connection.close()


async def unapplied(connection: Connection) -> list[str]:
    """The migrations of this release that the database lacks, in their order."""
    is_known = await connection.fetchval("SELECT to_regclass('public._pogo_migration') IS NOT NULL")
    applied = await sql.get_applied_migrations(connection, schema_name="public") if is_known else set()
    return sorted({path.stem for path in MIGRATIONS.glob("*.sql")} - applied)
