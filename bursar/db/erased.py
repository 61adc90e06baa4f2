"""What is left of a deleted user: a keyed digest of each name, by which a late message is known (KC-121)."""

from collections.abc import Collection
from datetime import datetime

from bursar.db.connections import Connection


async def among(connection: Connection, names: Collection[str]) -> frozenset[str]:
    """Those of the names (account keys, `subscription:{id}`) that were deleted."""
    # Looked up name by name, as LIMIT makes it: as a join it may be planned over all that were ever deleted.
    rows = await connection.fetch(
        """
        SELECT name FROM unnest($1::text[]) AS name CROSS JOIN LATERAL (
            SELECT FROM erased
            WHERE digest = sha256((SELECT key FROM erasure_key) || convert_to(name, 'UTF8')) LIMIT 1) AS found
        """,
        list(names),
    )
    return frozenset(row["name"] for row in rows)


async def mark(connection: Connection, names: Collection[str], real_now: datetime) -> None:
    """Remember by their digests that these were deleted."""
    await connection.execute(
        """
        INSERT INTO erased (digest, erased_at)
        SELECT sha256(key || convert_to(name, 'UTF8')), $2 FROM erasure_key CROSS JOIN unnest($1::text[]) AS name
        ON CONFLICT (digest) DO NOTHING
        """,
        list(names),
        real_now,
    )


async def unmark(connection: Connection, names: Collection[str]) -> None:
    """The product knows these again: from here on they are new."""
    await connection.execute(
        """
        DELETE FROM erased USING erasure_key CROSS JOIN unnest($1::text[]) AS name
        WHERE digest = sha256(key || convert_to(name, 'UTF8'))
        """,
        list(names),
    )


async def tombstone(connection: Connection, account_key: str) -> str:
    """What stands in the place of a deleted account's key: the same each time, nobody's without the key."""
    return (await tombstones(connection, [account_key]))[account_key]


async def tombstones(connection: Connection, account_keys: Collection[str]) -> dict[str, str]:
    """Likewise of several."""
    rows = await connection.fetch(
        """
        SELECT name, 'deleted:' || encode(substring(digest FOR 16), 'hex')::uuid AS tombstone
        FROM (SELECT name, sha256(key || convert_to('tombstone:' || name, 'UTF8')) AS digest
            FROM erasure_key CROSS JOIN unnest($1::text[]) AS name) AS keyed
        """,
        list(account_keys),
    )
    return {row["name"]: row["tombstone"] for row in rows}
