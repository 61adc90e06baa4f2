"""What a connection of the pool is like when the next one gets it."""

from bursar.db.connections import open_pool


async def test_ms_4_a_connection_given_back_in_a_transaction_is_rolled_back(database_url: str) -> None:
    pool = await open_pool(database_url, max_size=1, name="test")
    try:
        async with pool.acquire() as connection:
            await connection.transaction().start()
            await connection.execute("INSERT INTO accounts (key, partition) VALUES ('user:u1', 0)")
        async with pool.acquire() as connection:
            assert not connection.is_in_transaction()
            assert await connection.fetchval("SELECT count(*) FROM accounts") == 0
            assert await connection.fetchval("SHOW idle_in_transaction_session_timeout") == "3s"
    finally:
        await pool.close()


async def test_a_plan_made_while_a_table_is_small_probes_its_index(database_url: str) -> None:
    """Plans are kept: one that scans would do so until the table's statistics come, row after row of a batch."""
    pool = await open_pool(database_url, max_size=1, name="test")
    try:
        async with pool.acquire() as connection:
            await connection.execute("VACUUM ANALYZE accounts")
            await connection.execute(
                "INSERT INTO accounts (key, partition) SELECT 'user:u' || n, 0 FROM generate_series(1, 256) AS n"
            )
            plan = await connection.fetch("EXPLAIN SELECT partition FROM accounts WHERE key = 'user:u7'")
            assert "Index Scan" in plan[0][0]
    finally:
        await pool.close()
