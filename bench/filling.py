"""Tables as many users leave them after a while, for `bench.growth`. Names are those of `bench.events`."""

from datetime import datetime

from bursar.db.connections import Connection

NAMED = """
INSERT INTO named
SELECT n, 'load-' || lpad(n::text, greatest(5, length(n::text)), '0'), 'sub_bench' || lpad(n::text, 19, '0')
FROM generate_series(0, {users} - 1) AS n
"""

# An account, a running instance and a credit-funded row each, paid until `ends_at`; a handled message each with what it
# left: a settled payment in the ledger, a log entry, a step that is done.
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
    "credit_accounts": "INSERT INTO credit_accounts SELECT user_id, 90000000, 90000000 FROM named",
    "credit_transactions": """
        INSERT INTO credit_transactions
            (user_id, kind, amount_microdollars, description, business_key, payment_id, cause, created_at)
        SELECT user_id, kind, amount, 'Hosting, invoice in_' || n, 'settlement:in_' || n || suffix, 'in_' || n,
            'evt_' || n, at
        FROM named, instants, (VALUES ('settlement_deposit', 90000000, ''), ('settlement_charge', -90000000, ':charge'))
            AS entry (kind, amount, suffix)
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


async def name_users(connection: Connection, users: int, begins_at: datetime, ends_at: datetime) -> None:
    """What the tables are filled from, for this session only."""
    await connection.execute("CREATE TEMPORARY TABLE named (n integer, user_id text, subscription_id text)")
    await connection.execute(NAMED.format(users=int(users)))
    await connection.execute("CREATE TEMPORARY TABLE instants (at timestamptz, ends_at timestamptz)")
    await connection.execute("INSERT INTO instants VALUES ($1, $2)", begins_at, ends_at)


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
