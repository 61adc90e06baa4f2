"""Trials and periods that ended, and grace that is over: what is to be suspended (KC-60, KC-70, KC-71)."""

from datetime import timedelta

from bursar.db.connections import Connection
from bursar.sweeps.pages import Page, Window, page_before


async def ended_trials(connection: Connection, window: Window) -> Page:
    """KC-60: trialing, end before now."""
    return await page_before(
        connection,
        """
        SELECT trial_ends_at, account_key FROM kiloclaw_subscriptions
        WHERE partition = $1 AND status = 'trialing' AND trial_ends_at < $2
            AND (trial_ends_at, account_key) > ($3, $4)
        ORDER BY trial_ends_at, account_key LIMIT $5
        """,
        window,
        window.now,
    )


async def ended_periods(connection: Connection, window: Window) -> Page:
    """KC-70: canceled, period end before now, not suspended; only these have an `expires_at`."""
    return await page_before(
        connection,
        """
        SELECT expires_at, account_key FROM kiloclaw_subscriptions
        WHERE partition = $1 AND expires_at < $2 AND (expires_at, account_key) > ($3, $4)
        ORDER BY expires_at, account_key LIMIT $5
        """,
        window,
        window.now,
    )


async def ended_grace(connection: Connection, window: Window) -> Page:
    """KC-71: past due or unpaid for strictly longer than the grace, not suspended."""
    return await page_before(
        connection,
        """
        SELECT past_due_since, account_key FROM kiloclaw_subscriptions
        WHERE partition = $1 AND status IN ('past_due', 'unpaid') AND suspended_at IS NULL
            AND past_due_since < $2 AND (past_due_since, account_key) > ($3, $4)
        ORDER BY past_due_since, account_key LIMIT $5
        """,
        window,
        window.now - timedelta(days=window.catalogue.kiloclaw.grace.past_due_days),
    )
