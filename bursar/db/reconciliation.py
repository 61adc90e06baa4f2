"""The rows that a reconciliation compares, and which subscriptions it saw at Stripe (MS-10)."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from bursar.billing.kiloclaw.reconciling import Owned
from bursar.billing.kiloclaw.rows import Subscription
from bursar.db.connections import Connection
from bursar.db.kiloclaw import SUBSCRIPTION_COLUMNS

ABANDONED_AFTER = timedelta(days=2)  # what a run left that died


async def begin(connection: Connection) -> UUID:
    """A run of its own: two at once do not mix."""
    run: UUID = await connection.fetchval("SELECT gen_random_uuid()")
    return run


async def rows_of(connection: Connection, subscription_ids: Sequence[str]) -> dict[str, Owned]:
    """The rows bound to these subscriptions."""
    rows = await connection.fetch(
        f"""
        SELECT account_key, {SUBSCRIPTION_COLUMNS} FROM kiloclaw_subscriptions
        WHERE stripe_subscription_id = ANY($1::text[])
        """,  # noqa: S608 - the fields' names
        subscription_ids,
    )
    return {row["stripe_subscription_id"]: Owned(row["account_key"], Subscription(*row[1:])) for row in rows}


async def note_seen(connection: Connection, run: UUID, subscription_ids: Sequence[str], real_now: datetime) -> None:
    """Stripe listed these; and what runs left that died goes."""
    await connection.execute("DELETE FROM reconciled WHERE seen_at < $1", real_now - ABANDONED_AFTER)
    await connection.execute(
        """
        INSERT INTO reconciled (run, stripe_subscription_id, seen_at)
        SELECT $1, id, $3 FROM unnest($2::text[]) AS id ON CONFLICT DO NOTHING
        """,
        run,
        subscription_ids,
        real_now,
    )


async def unseen(connection: Connection, run: UUID, made_before: datetime, after: str, limit: int) -> list[str]:
    """Subscriptions of rows that have not ended and that Stripe did not list, in order after that one."""
    rows = await connection.fetch(
        """
        SELECT stripe_subscription_id AS id FROM kiloclaw_subscriptions AS bound
        WHERE stripe_subscription_id > $3 AND status <> 'canceled' AND created_at < $2
            AND NOT EXISTS (
                SELECT FROM reconciled
                WHERE run = $1 AND reconciled.stripe_subscription_id = bound.stripe_subscription_id)
        ORDER BY stripe_subscription_id LIMIT $4
        """,
        run,
        made_before,
        after,
        limit,
    )
    return [row["id"] for row in rows]


async def forget(connection: Connection, run: UUID) -> None:
    """The run is over."""
    await connection.execute("DELETE FROM reconciled WHERE run = $1", run)
