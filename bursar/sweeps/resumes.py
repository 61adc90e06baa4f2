"""Entitled rows whose instance was left stopped (KC-90)."""

from bursar.db.connections import Connection
from bursar.sweeps.pages import Page, Window, page_of


async def interrupted(connection: Connection, window: Window) -> Page:
    """By account. Looks up the row of each stopped instance, of which there are as many as suspended rows."""
    rows = await connection.fetch(
        """
        SELECT $2::timestamptz, instance.account_key
        FROM kiloclaw_instances AS instance
        CROSS JOIN LATERAL (
            SELECT status FROM kiloclaw_subscriptions AS subscription
            WHERE subscription.account_key = instance.account_key AND subscription.instance_id = instance.id
            LIMIT 1) AS owner
        WHERE instance.partition = $1 AND instance.account_key > $3
            AND instance.desired_state = 'stopped' AND instance.destroyed_at IS NULL
            AND instance.destroying_since IS NULL AND owner.status IN ('active', 'trialing')
        ORDER BY instance.account_key LIMIT $4
        """,
        window.partition,
        window.after.at,
        window.after.key,
        window.limit,
    )
    return page_of(rows, window.limit)
