"""Rows paid from credits alone whose renewal is reached (CR-30)."""

from bursar.db.connections import Connection
from bursar.sweeps.pages import Page, Window, page_of


async def due_renewals(connection: Connection, window: Window) -> Page:
    """Active or past due, oldest renewal first; only these have a `renews_at`.

    A row that is still behind once it is renewed is found again further on, so the page after the last one is looked at
    too: a row three months behind takes three items of one tick.
    """
    rows = await connection.fetch(
        """
        SELECT renews_at, account_key FROM kiloclaw_subscriptions
        WHERE partition = $1 AND renews_at <= $2 AND (renews_at, account_key) > ($3, $4)
        ORDER BY renews_at, account_key LIMIT $5
        """,
        window.partition,
        window.now,
        window.after.at,
        window.after.key,
        window.limit,
    )
    return page_of(rows, max(len(rows), 1))
