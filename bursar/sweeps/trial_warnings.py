"""Trials that are about to end (KC-75)."""

from datetime import timedelta

from bursar.db.connections import Connection
from bursar.sweeps.pages import Page, Window, page_of


async def ending_trials(connection: Connection, window: Window) -> Page:
    """Trialing, ending within the catalogue's days, without the warning that is due now."""
    terms = window.catalogue.kiloclaw.trial
    rows = await connection.fetch(
        """
        SELECT trial_ends_at, account_key FROM kiloclaw_subscriptions AS subscription
        WHERE partition = $1 AND status = 'trialing' AND trial_ends_at > $2 AND trial_ends_at <= $3
            AND (trial_ends_at, account_key) > ($5, $6)
            AND NOT EXISTS (
                SELECT FROM kiloclaw_email_log AS mail
                WHERE mail.user_id = subscription.user_id AND mail.cycle = ''
                    AND mail.email_type = CASE WHEN trial_ends_at <= $4 THEN 'claw_trial_1d' ELSE 'claw_trial_5d' END)
        ORDER BY trial_ends_at, account_key LIMIT $7
        """,
        window.partition,
        window.now,
        window.now + timedelta(days=terms.early_warning_days),
        window.now + timedelta(days=terms.late_warning_days),
        window.after.at,
        window.after.key,
        window.limit,
    )
    return page_of(rows, window.limit)
