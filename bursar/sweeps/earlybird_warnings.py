"""Earlybird access that is about to end (KC-76)."""

from bursar.billing.kiloclaw.enforcement import earlybird_warning_due
from bursar.db.connections import Connection
from bursar.sweeps.pages import Page, Window, page_of


async def ending_earlybirds(connection: Connection, window: Window) -> Page:
    """By account: bought, no active or trialing row, without the warning that is due now.

    All end on the same day: until their warnings are due nothing is looked at; then it walks the partition's purchases.
    """
    mail = earlybird_warning_due(window.catalogue, window.now)
    if mail is None:
        return Page((), None)
    # Scalar subqueries are looked up row by row; as joins they may be planned over all subscriptions.
    rows = await connection.fetch(
        """
        SELECT $2::timestamptz, account_key FROM kiloclaw_earlybird_purchases AS purchase
        WHERE partition = $1 AND account_key > $3
            AND coalesce((
                SELECT status FROM kiloclaw_subscriptions AS subscription
                WHERE subscription.account_key = purchase.account_key), 'none') NOT IN ('active', 'trialing')
            AND coalesce((
                SELECT mail.email_type FROM kiloclaw_email_log AS mail
                WHERE mail.user_id = purchase.user_id AND mail.email_type = $5 AND mail.cycle = ''), 'none') <> $5
        ORDER BY account_key LIMIT $4
        """,
        window.partition,
        window.after.at,
        window.after.key,
        window.limit,
        mail,
    )
    return page_of(rows, window.limit)
