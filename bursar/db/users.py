"""Users, as the product told us about them."""

from collections.abc import Mapping, Sequence

from bursar.billing.account import Profile, user_id_of, user_key
from bursar.db.connections import Connection, dumps
from bursar.db.saving import Change, SaveContext


async def load(connection: Connection, keys: list[str]) -> Mapping[str, Profile]:
    """The profiles of these accounts; an unknown user's is empty."""
    rows = await connection.fetch(
        """
        SELECT account_key, user_id, email, name, stripe_customer_id, auto_top_up, deleted_at
        FROM users WHERE account_key = ANY($1::text[])
        """,
        keys,
    )
    known = {row["account_key"]: Profile(*tuple(row)[1:]) for row in rows}
    return {key: known.get(key) or Profile(user_id_of(key) or key) for key in keys}


async def save(connection: Connection, changes: list[Change[Profile]], _: SaveContext) -> None:
    """Insert or replace the changed profiles."""
    rows = [
        {
            "account_key": change.key,
            "user_id": change.after.user_id,
            "email": change.after.email,
            "name": change.after.name,
            "stripe_customer_id": change.after.stripe_customer_id,
            "auto_top_up": change.after.auto_top_up,
            "deleted_at": change.after.deleted_at,
        }
        for change in changes
    ]
    await connection.execute(
        """
        INSERT INTO users (user_id, account_key, email, name, stripe_customer_id, auto_top_up, deleted_at)
        SELECT user_id, account_key, email, name, stripe_customer_id, auto_top_up, deleted_at
        FROM jsonb_populate_recordset(NULL::users, $1::text::jsonb)
        ON CONFLICT (user_id) DO UPDATE SET
            email = excluded.email, name = excluded.name, stripe_customer_id = excluded.stripe_customer_id,
            auto_top_up = excluded.auto_top_up, deleted_at = excluded.deleted_at
        """,
        dumps(rows),
    )


async def auto_top_up_of(connection: Connection, user_id: str) -> bool:
    """Whether the user's renewals charge the card on file when they are short of money."""
    return bool(await connection.fetchval("SELECT auto_top_up FROM users WHERE user_id = $1", user_id))


async def keys_of_customers(connection: Connection, customer_ids: Sequence[str]) -> dict[str, str]:
    """The account key of each Stripe customer that a user is known for: told by the product, else by the row."""
    rows = await connection.fetch(
        """
        SELECT stripe_customer_id, user_id FROM kiloclaw_subscriptions WHERE stripe_customer_id = ANY($1::text[])
        UNION ALL
        SELECT stripe_customer_id, user_id FROM users WHERE stripe_customer_id = ANY($1::text[])
        """,
        customer_ids,
    )
    return {row["stripe_customer_id"]: user_key(row["user_id"]) for row in rows}
