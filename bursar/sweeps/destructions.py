"""Deadlines of destruction: passed ones (KC-73) and near ones (KC-72)."""

from datetime import timedelta

from bursar.db.connections import Connection
from bursar.sweeps.pages import Page, Window, page_before, page_of


async def passed_deadlines(connection: Connection, window: Window) -> Page:
    """KC-73: oldest deadline first, without those whose destruction is under way."""
    return await page_before(
        connection,
        """
        SELECT destruction_deadline, account_key FROM kiloclaw_subscriptions AS subscription
        WHERE partition = $1 AND destruction_deadline < $2 AND (destruction_deadline, account_key) > ($3, $4)
            AND suspended_at IS NOT NULL AND status IN ('canceled', 'past_due', 'unpaid')
            AND NOT EXISTS (
                SELECT FROM kiloclaw_instances AS instance
                WHERE instance.account_key = subscription.account_key
                    AND instance.destroying_since IS NOT NULL AND instance.destroyed_at IS NULL)
        ORDER BY destruction_deadline, account_key LIMIT $5
        """,
        window,
        window.now,
    )


async def near_deadlines(connection: Connection, window: Window) -> Page:
    """KC-72: not passed, within the catalogue's days, a live instance, and not warned since the suspension began."""
    rows = await connection.fetch(
        """
        SELECT destruction_deadline, account_key FROM kiloclaw_subscriptions AS subscription
        WHERE partition = $1 AND destruction_deadline >= $2 AND destruction_deadline <= $3
            AND (destruction_deadline, account_key) > ($4, $5)
            AND suspended_at IS NOT NULL AND status IN ('canceled', 'past_due', 'unpaid')
            AND EXISTS (
                SELECT FROM kiloclaw_instances AS instance
                WHERE instance.id = subscription.instance_id
                    AND instance.destroying_since IS NULL AND instance.destroyed_at IS NULL)
            AND NOT EXISTS (
                SELECT FROM kiloclaw_email_log AS mail
                WHERE mail.user_id = subscription.user_id AND mail.email_type = 'claw_destruction_warning'
                    AND mail.decided_at >= subscription.suspended_at)
        ORDER BY destruction_deadline, account_key LIMIT $6
        """,
        window.partition,
        window.now,
        window.now + timedelta(days=window.catalogue.kiloclaw.grace.destruction_warning_days),
        window.after.at,
        window.after.key,
        window.limit,
    )
    return page_of(rows, window.limit)
