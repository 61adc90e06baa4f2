"""Tables as many users leave them after a while, for `bench.growth`. Names are those of `bench.events`."""

from datetime import datetime

from bursar.db.connections import Connection


async def fill_users(connection: Connection, users: int, begins_at: datetime, ends_at: datetime) -> None:
    """An account, a running instance and a credit-funded row each, paid until `ends_at`."""
    await connection.execute("CREATE TEMPORARY TABLE named (n integer, user_id text, subscription_id text)")
    await connection.execute(
        """
        INSERT INTO named
        SELECT n, 'load-' || lpad(n::text, greatest(5, length(n::text)), '0'), 'sub_bench' || lpad(n::text, 19, '0')
        FROM generate_series(0, $1::integer - 1) AS n
        """,
        users,
    )
    await connection.execute("INSERT INTO accounts (key, partition) SELECT 'user:' || user_id, n % 32 FROM named")
    await connection.execute(
        """
        INSERT INTO kiloclaw_instances
            (id, account_key, partition, created_at, desired_state, generation, done_generation, wanted_since, due_at)
        SELECT 'instance-' || n, 'user:' || user_id, n % 32, $1, 'running', 1, 1, $1, $1 FROM named
        """,
        begins_at,
    )
    await connection.execute(
        """
        INSERT INTO kiloclaw_subscriptions (id, user_id, account_key, partition, version, created_at, plan, status,
            payment_source, stripe_subscription_id, instance_id, current_period_start, current_period_end,
            credit_renewal_at, settled_at)
        SELECT gen_random_uuid(), user_id, 'user:' || user_id, n % 32, 1, $1, 'commit', 'active', 'credits',
            subscription_id, 'instance-' || n, $1, $2, $2, $1
        FROM named
        """,
        begins_at,
        ends_at,
    )


async def fill_logs(connection: Connection, at: datetime) -> None:
    """A handled message each with what it left: a settled payment in the ledger, a log entry, a step that is done."""
    await connection.execute("INSERT INTO inbox (message_id, received_at) SELECT 'evt_' || n, $1 FROM named", at)
    await connection.execute("INSERT INTO credit_accounts SELECT user_id, 90000000, 90000000 FROM named")
    await connection.execute(
        """
        INSERT INTO credit_transactions
            (user_id, kind, amount_microdollars, description, business_key, payment_id, cause, created_at)
        SELECT user_id, kind, amount, 'Hosting, invoice in_' || n, 'settlement:in_' || n || suffix, 'in_' || n,
            'evt_' || n, $1
        FROM named, (VALUES ('settlement_deposit', 90000000, ''), ('settlement_charge', -90000000, ':charge'))
            AS entry (kind, amount, suffix)
        """,
        at,
    )
    await connection.execute(
        """
        INSERT INTO change_log (account_key, entity, entity_id, before, after, cause, actor, reason, decided_at)
        SELECT 'user:' || user_id, 'kiloclaw_subscriptions', user_id, '{"settled_at": null}',
            jsonb_build_object('settled_at', $1::timestamptz), 'evt_' || n, 'system', 'invoice in_' || n, $1
        FROM named
        """,
        at,
    )
    await connection.execute(
        """
        INSERT INTO steps (key, account_key, kind, payload, state, due_at, created_at, settled_at, cause)
        SELECT 'read:user:' || user_id, 'user:' || user_id, 'read_subscriptions', '{}', 'done', $1, $1, $1, 'evt_' || n
        FROM named
        """,
        at,
    )
