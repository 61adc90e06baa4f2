"""Entitled rows whose instance was left stopped (KC-90)."""

from bursar.db.connections import Connection
from bursar.sweeps.pages import Page, Window, page_of


async def interrupted(connection: Connection, window: Window) -> Page:
    """By account. Looks at the stopped instances only: there are as many as suspended rows."""
    rows = await connection.fetch(
        """
        SELECT $2::timestamptz, instance.account_key
        FROM kiloclaw_instances AS instance
        JOIN kiloclaw_subscriptions AS subscription ON subscription.account_key = instance.account_key
        WHERE instance.partition = $1 AND instance.account_key > $3
            AND instance.desired_state = 'stopped' AND instance.destroyed_at IS NULL
            AND instance.destroying_since IS NULL
            AND subscription.instance_id = instance.id AND subscription.status IN ('active', 'trialing')
        ORDER BY instance.account_key LIMIT $4
        """,
        window.partition,
        window.after.at,
        window.after.key,
        window.limit,
    )
    return page_of(rows, window.limit)
