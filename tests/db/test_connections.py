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
