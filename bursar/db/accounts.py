"""The rows that are locked."""

from collections.abc import Collection, Sequence

from bursar.billing.account import partition_of
from bursar.db.connections import Connection


async def lock_accounts(connection: Connection, keys: Sequence[str]) -> set[str]:
    """Lock the accounts in the one order, that of their keys; returns the keys that exist."""
    rows = await connection.fetch(
        "SELECT key FROM accounts WHERE key = ANY($1::text[]) ORDER BY key FOR UPDATE", sorted(keys)
    )
    return {row["key"] for row in rows}


async def held_by_others(connection: Connection, keys: Collection[str]) -> set[str]:
    """Those of the accounts that somebody holds locked at this moment."""
    rows = await connection.fetch(
        """
        WITH free AS (SELECT key FROM accounts WHERE key = ANY($1::text[]) ORDER BY key FOR UPDATE SKIP LOCKED)
        SELECT key FROM accounts WHERE key = ANY($1::text[]) AND key NOT IN (SELECT key FROM free)
        """,
        list(keys),
    )
    return {row["key"] for row in rows}


async def make_accounts(connection: Connection, keys: Collection[str], partitions: int) -> None:
    """Make the accounts that do not exist yet. Its own transaction, in sorted order: no two of them deadlock."""
    missing = sorted(keys)
    await connection.execute(
        """
        INSERT INTO accounts (key, partition)
        SELECT * FROM unnest($1::text[], $2::integer[])
        ON CONFLICT (key) DO NOTHING
        """,
        missing,
        [partition_of(key, partitions) for key in missing],
    )
