"""Tables as many users leave them after a while, for `bench.growth`. Names are those of `bench.events`."""

from datetime import datetime

from bursar.db.connections import Connection

PREWARM_SECONDS = 600.0

NAMED = """
INSERT INTO named
SELECT n, 'load-' || lpad(n::text, greatest(5, length(n::text)), '0'), 'sub_bench' || lpad(n::text, 19, '0')
FROM generate_series(0, {users} - 1) AS n
"""

# An account, a running instance and a credit-funded row each, paid until `ends_at`; a handled message each with what it
# left: settled payments in the ledger, a log entry, a step that is done.
FILLS = {
    "accounts": "INSERT INTO accounts (key, partition) SELECT 'user:' || user_id, n % 32 FROM named",
    "kiloclaw_instances": """
        INSERT INTO kiloclaw_instances
            (id, account_key, partition, created_at, desired_state, generation, done_generation, wanted_since, due_at)
        SELECT 'instance-' || n, 'user:' || user_id, n % 32, at, 'running', 1, 1, at, at FROM named, instants
        """,
    "kiloclaw_subscriptions": """
        INSERT INTO kiloclaw_subscriptions (id, user_id, account_key, partition, version, created_at, plan, status,
            payment_source, stripe_subscription_id, instance_id, current_period_start, current_period_end,
            credit_renewal_at, settled_at)
        SELECT gen_random_uuid(), user_id, 'user:' || user_id, n % 32, 1, at, 'commit', 'active', 'credits',
            subscription_id, 'instance-' || n, at, ends_at, ends_at, at
        FROM named, instants
        """,
    "inbox": "INSERT INTO inbox (message_id, received_at) SELECT 'evt_' || n, at FROM named, instants",
    "credit_accounts": """
        INSERT INTO credit_accounts
        SELECT user_id, 90000000 * times, 90000000 * times FROM named, (SELECT count(*) FROM paid) AS all_of (times)
        """,
    "credit_transactions": """
        INSERT INTO credit_transactions
            (user_id, kind, amount_microdollars, description, business_key, payment_id, cause, created_at)
        SELECT user_id, kind, amount, 'Hosting, invoice ' || invoice, 'settlement:' || invoice || suffix, invoice,
            'evt_' || n, at
        FROM instants, paid, named, (VALUES ('settlement_deposit', 90000000, ''), ('settlement_charge', -90000000,
            ':charge')) AS entry (kind, amount, suffix), concat('in_', n, '_', number) AS invoice
        ORDER BY number, n
        """,
    "change_log": """
        INSERT INTO change_log (account_key, entity, entity_id, before, after, cause, actor, reason, decided_at)
        SELECT 'user:' || user_id, 'kiloclaw_subscriptions', user_id, '{"settled_at": null}',
            jsonb_build_object('settled_at', at), 'evt_' || n, 'system', 'invoice in_' || n, at
        FROM named, instants
        """,
    "steps": """
        INSERT INTO steps (key, account_key, kind, payload, state, due_at, created_at, settled_at, cause)
        SELECT 'read:user:' || user_id, 'user:' || user_id, 'read_subscriptions', '{}', 'done', at, at, at, 'evt_' || n
        FROM named, instants
        """,
}


async def name_users(
    connection: Connection, users: int, begins_at: datetime, ends_at: datetime, payments: int = 1
) -> None:
    """What the tables are filled from, for this session only; each user has paid so many times."""
    await connection.execute("CREATE TEMPORARY TABLE named (n integer, user_id text, subscription_id text)")
    await connection.execute(NAMED.format(users=int(users)))
    await connection.execute("CREATE TEMPORARY TABLE instants (at timestamptz, ends_at timestamptz)")
    await connection.execute("INSERT INTO instants VALUES ($1, $2)", begins_at, ends_at)
    await connection.execute(f"CREATE TEMPORARY TABLE paid AS SELECT generate_series(1, {int(payments)}) AS number")


async def drop_indexes(connection: Connection) -> list[str]:
    """Drop the indexes that only make reading fast; returns what makes them again. Made of whole tables, they cost a
    fraction.
    """
    indexes = await connection.fetch(
        """
        SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition
        FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
        WHERE relnamespace = 'public'::regnamespace
            AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
        """
    )
    for one in indexes:
        await connection.execute(f"DROP INDEX {one['name']}")
    return [one["definition"] for one in indexes]


async def empty(connection: Connection) -> None:
    """Take out what the tables of `FILLS` hold."""
    await connection.execute(f"TRUNCATE {', '.join(FILLS)} CASCADE")


async def prewarm(connection: Connection) -> None:
    """Read all tables and their indexes into PostgreSQL's buffers. They must have room for it."""
    await connection.execute("CREATE EXTENSION IF NOT EXISTS pg_prewarm")
    async with connection.transaction():
        await connection.execute("SET LOCAL statement_timeout = 0")
        await connection.execute(
            """
            SELECT pg_prewarm(oid) FROM pg_class
            WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')
            """,
            timeout=PREWARM_SECONDS,
        )


async def shared_buffers_mb(connection: Connection) -> int:
    """What PostgreSQL has for its buffers, in megabytes."""
    megabytes: int = await connection.fetchval("SELECT pg_size_bytes(current_setting('shared_buffers')) / 1048576")
    return megabytes


async def pages_asked_for(connection: Connection) -> int:
    """How many pages were asked for in this database so far, found in the buffers or not; this session has told all."""
    await connection.execute("SELECT pg_stat_force_next_flush()")
    pages: int = await connection.fetchval(
        "SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()"
    )
    return pages
