"""Names of deleted users are known again by their keyed digests (KC-121)."""

import asyncpg

from bursar.db import erased
from tests.db.deciding import REAL_NOW

MANY = 20_000


async def test_kc_121_a_name_is_known_again_until_the_product_tells_of_it(connection: asyncpg.Connection) -> None:
    await erased.mark(connection, ["user:ada", "customer:cus_1"], REAL_NOW)
    await erased.mark(connection, ["user:ada"], REAL_NOW)
    assert await erased.among(connection, ["user:ada", "customer:cus_1", "user:grace"]) == {
        "user:ada",
        "customer:cus_1",
    }
    await erased.unmark(connection, ["user:ada", "user:grace"])
    assert await erased.among(connection, ["user:ada", "customer:cus_1"]) == {"customer:cus_1"}


async def test_kc_121_without_the_key_nobody_can_tell_whom_a_tombstone_stands_for(
    connection: asyncpg.Connection,
) -> None:
    first = await erased.tombstone(connection, "user:ada")
    assert first == await erased.tombstone(connection, "user:ada")
    assert first != await erased.tombstone(connection, "user:grace")
    await connection.execute("UPDATE erasure_key SET key = sha256(key)")
    assert await erased.tombstone(connection, "user:ada") != first


async def test_a_look_up_reads_no_more_however_many_were_deleted(connection: asyncpg.Connection) -> None:
    """Each batch of messages makes one."""
    await erased.mark(connection, [f"user:{number}" for number in range(MANY)], REAL_NOW)
    await connection.execute("ANALYZE erased")
    async with connection.transaction():
        await erased.among(connection, [f"user:x{number}" for number in range(256)])
        scans = await connection.fetchval("SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'erased'")
    assert scans == 0
