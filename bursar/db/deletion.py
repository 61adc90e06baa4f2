"""Deleting a user (KC-121): every row that knows them, in the transaction of the decision that allowed it.

A new table that names users, their addresses or their Stripe customers needs its statement here; the test of this file
looks through all tables.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from bursar.billing.account import customer_key, partition_of, payment_key, user_key
from bursar.billing.steps import StepKind
from bursar.billing.values import Value
from bursar.db import credits as ledger
from bursar.db import erased
from bursar.db.connections import Connection

PERSONAL_FIELDS = ("user_id", "account_key", "stripe_customer_id", "email", "name")
ERASED = "erased with its user"
OUTLIVING = (StepKind.END_SUBSCRIPTION, StepKind.END_CUSTOMER)


class Deletion(Value):
    """Who is deleted. `customer_ids` are all of the user's that are known; the caller holds the locks of all `keys`."""

    user_id: str
    customer_ids: tuple[str, ...]
    partitions: int
    now: datetime
    real_now: datetime

    @property
    def key(self) -> str:
        """The user's account key."""
        return user_key(self.user_id)

    @property
    def keys(self) -> list[str]:
        """The accounts that go."""
        return [self.key, *map(customer_key, self.customer_ids)]


Erase = Callable[[Connection, Deletion, str], Awaitable[object]]


async def customers_of(connection: Connection, user_id: str) -> tuple[str, ...]:
    """Every Stripe customer that is known to be the user's, in order."""
    rows = await connection.fetch(
        """
        SELECT stripe_customer_id AS id FROM users WHERE account_key = $1
        UNION SELECT stripe_customer_id FROM kiloclaw_subscriptions WHERE account_key = $1
        UNION SELECT stripe_customer_id FROM early_events WHERE account_key = $1
        UNION SELECT after->>'stripe_customer_id' FROM change_log WHERE account_key = $1
        ORDER BY id
        """,
        user_key(user_id),
    )
    return tuple(row["id"] for row in rows if row["id"])


async def erase(connection: Connection, deletion: Deletion) -> str:
    """Erase the user; returns the account key that stands in their place."""
    tombstone = await erased.tombstone(connection, deletion.key)
    names = [*deletion.keys, *await _subscriptions_of(connection, deletion), *await _payments_of(connection, deletion)]
    await connection.execute(
        "INSERT INTO accounts (key, partition) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING",
        tombstone,
        partition_of(tombstone, deletion.partitions),
    )
    for one in ERASURES:
        await one(connection, deletion, tombstone)
    await erased.mark(connection, names, deletion.real_now)
    return tombstone


async def _subscriptions_of(connection: Connection, deletion: Deletion) -> Sequence[str]:
    rows = await connection.fetch(
        """
        SELECT stripe_subscription_id AS id FROM early_events WHERE account_key = ANY($1::text[])
        UNION SELECT after->>'stripe_subscription_id' FROM change_log WHERE account_key = ANY($1::text[])
        UNION SELECT stripe_subscription_id FROM kiloclaw_subscriptions WHERE account_key = ANY($1::text[])
        """,
        deletion.keys,
    )
    return [f"subscription:{row['id']}" for row in rows if row["id"]]


async def _payments_of(connection: Connection, deletion: Deletion) -> Sequence[str]:
    rows = await connection.fetch(
        "SELECT payment_id FROM credit_transactions WHERE user_id = $1 AND kind = 'deposit'", deletion.user_id
    )
    return [payment_key(row["payment_id"]) for row in rows]


async def _subscription(connection: Connection, deletion: Deletion, _: str) -> None:
    await connection.execute("DELETE FROM kiloclaw_subscriptions WHERE account_key = $1", deletion.key)


async def _renewal_failures(connection: Connection, deletion: Deletion, _: str) -> None:
    await connection.execute("DELETE FROM renewal_failures WHERE account_key = $1", deletion.key)


async def _mail_log(connection: Connection, deletion: Deletion, _: str) -> None:
    await connection.execute("DELETE FROM kiloclaw_email_log WHERE account_key = $1", deletion.key)


async def _earlybird(connection: Connection, deletion: Deletion, _: str) -> None:
    await connection.execute("DELETE FROM kiloclaw_earlybird_purchases WHERE account_key = $1", deletion.key)


async def _early_events(connection: Connection, deletion: Deletion, _: str) -> None:
    await connection.execute("DELETE FROM early_events WHERE account_key = ANY($1::text[])", deletion.keys)


async def _instances(connection: Connection, deletion: Deletion, tombstone: str) -> None:
    """They stay until they are destroyed, and after that as what there was; nothing tells whose."""
    await connection.execute(
        """
        UPDATE kiloclaw_instances SET account_key = $2, partition = $3, error = NULL WHERE account_key = $1
        """,
        deletion.key,
        tombstone,
        partition_of(tombstone, deletion.partitions),
    )


async def _steps(connection: Connection, deletion: Deletion, tombstone: str) -> None:
    """Only what ends their subscriptions at Stripe outlives them (KC-120): a mail or a read loses its lease with it.
    `END_CUSTOMER` names the customer until it is settled.
    """
    await connection.execute(
        "DELETE FROM steps WHERE account_key = ANY($1::text[]) AND kind <> ALL($2::text[])",
        deletion.keys,
        list(OUTLIVING),
    )
    await connection.execute("UPDATE steps SET account_key = $2 WHERE account_key = $1", deletion.key, tombstone)


async def _change_log(connection: Connection, deletion: Deletion, tombstone: str) -> None:
    await connection.execute(
        """
        UPDATE change_log SET account_key = $2, before = before - $4::text[], after = after - $4::text[],
            entity_id = CASE WHEN entity_id = $3 THEN $2 ELSE entity_id END,
            actor = CASE WHEN actor IN ($1, $3) THEN $2 ELSE actor END,
            cause = replace(replace(replace(cause, $1, $2),
                'mail:' || $3 || ':', 'mail:' || $2 || ':'), 'top-up:' || $3 || ':', 'top-up:' || $2 || ':')
        WHERE account_key = $1
        """,
        deletion.key,
        tombstone,
        deletion.user_id,
        list(PERSONAL_FIELDS),
    )


async def _credits(connection: Connection, deletion: Deletion, tombstone: str) -> None:
    await ledger.bury(connection, deletion.user_id, tombstone)
    # what does not fit is found again under the tombstone
    await connection.execute("DELETE FROM credit_mismatches WHERE user_id = $1", deletion.user_id)


async def _audit_cursor(connection: Connection, deletion: Deletion, tombstone: str) -> None:
    """A check that stands at this user goes on from the tombstone; looking at some twice is harmless."""
    await connection.execute(
        "UPDATE credit_audit SET after_user_id = $2 WHERE after_user_id = $1", deletion.user_id, tombstone
    )


async def _parked(connection: Connection, deletion: Deletion, tombstone: str) -> None:
    """Emptied, not dropped: that a message came stays, as what operators did with it. Where the account could not be
    told, whatever names the user or the customer is theirs.
    """
    named = [f'"userId":"{deletion.user_id}"', f'"userId": "{deletion.user_id}"']
    named += [f'"{customer_id}"' for customer_id in deletion.customer_ids]
    await connection.execute(
        """
        WITH emptied AS (
            UPDATE parked_messages SET account_key = $2, headers = '{}', body = '', error = $4, retry_at = NULL,
                state = CASE WHEN state = 'replayed' THEN 'replayed' ELSE 'discarded' END
            WHERE account_key = ANY($1::text[]) OR (account_key IS NULL AND EXISTS (
                SELECT FROM unnest($3::text[]) AS name WHERE position(convert_to(name, 'UTF8') IN body) > 0))
            RETURNING id)
        UPDATE parked_actions SET reason = $4, error = NULL FROM emptied WHERE parked_id = emptied.id
        """,
        deletion.keys,
        tombstone,
        named,
        ERASED,
    )


async def _answers(connection: Connection, deletion: Deletion, _: str) -> None:
    """Kept answers by their scope, as `POST /v1/users/{user}/kiloclaw/trial`; and others that name the user."""
    await connection.execute(
        """
        DELETE FROM idempotency
        WHERE starts_with(split_part(scope, ' ', 2), '/v1/users/' || $1 || '/') OR answer->>'user_id' = $1
        """,
        deletion.user_id,
    )


async def _tick_cursors(connection: Connection, deletion: Deletion, tombstone: str) -> None:
    """A sweep that stands at this account goes on from the tombstone, which sorts before every user."""
    await connection.execute(
        """
        UPDATE tick_partitions SET cursor = jsonb_set(cursor, '{1}', to_jsonb($2::text))
        WHERE cursor IS NOT NULL AND cursor->>1 = ANY($1::text[])
        """,
        deletion.keys,
        tombstone,
    )


async def _profile(connection: Connection, deletion: Deletion, tombstone: str) -> None:
    await connection.execute("DELETE FROM users WHERE account_key = $1", deletion.key)
    await connection.execute(
        """
        INSERT INTO users (user_id, account_key, deleted_at) VALUES ($1, $1, $2)
        ON CONFLICT (user_id) DO UPDATE SET deleted_at = excluded.deleted_at
        """,
        tombstone,
        deletion.now,
    )


async def _accounts(connection: Connection, deletion: Deletion, _: str) -> None:
    await connection.execute("DELETE FROM accounts WHERE key = ANY($1::text[])", deletion.keys)


ERASURES: tuple[Erase, ...] = (
    _subscription,
    _renewal_failures,
    _mail_log,
    _earlybird,
    _early_events,
    _instances,
    _steps,
    _change_log,
    _credits,
    _audit_cursor,
    _parked,
    _answers,
    _tick_cursors,
    _profile,
    _accounts,
)
