"""The rows of hosted-instance customers: loaded and saved for many accounts at once."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import orjson
from asyncpg import Record
from msgspec.structs import asdict

from bursar.billing.account import CUSTOMER_PREFIX, partition_of, user_id_of
from bursar.billing.errors import Refused, Retryable
from bursar.billing.kiloclaw.rows import EarlyEvent, Hosting, Instance, MailKey, PaidPeriod, Subscription
from bursar.db import users
from bursar.db.connections import Connection, dumps
from bursar.db.saving import Change, SaveContext

# Rows become values by position, which takes a tenth of the time that it takes by name.
SUBSCRIPTION_COLUMNS = ", ".join(Subscription.__struct_fields__)
INSTANCE_COLUMNS = ", ".join(Instance.__struct_fields__)


async def load(connection: Connection, keys: list[str]) -> Mapping[str, Hosting]:
    """The KiloClaw parts of these accounts, in two statements whatever their number."""
    subscriptions = await connection.fetch(
        f"SELECT account_key, {SUBSCRIPTION_COLUMNS} FROM kiloclaw_subscriptions WHERE account_key = ANY($1::text[])",  # noqa: S608
        keys,
    )
    others = await connection.fetch(
        f"""
        SELECT owner.key,
            ARRAY(SELECT ({INSTANCE_COLUMNS})
                FROM kiloclaw_instances WHERE account_key = owner.key ORDER BY created_at, id) AS instances,
            ARRAY(SELECT (email_type, cycle, state) FROM kiloclaw_email_log WHERE account_key = owner.key) AS mails,
            ARRAY(SELECT (event_id, stripe_subscription_id, stripe_customer_id, type, occurred_at, paid_period::text)
                FROM early_events WHERE account_key = owner.key ORDER BY occurred_at, event_id) AS early_events,
            (SELECT payment_id FROM kiloclaw_earlybird_purchases WHERE user_id = owner.user_id) AS earlybird_payment_id,
            ARRAY(SELECT (subscription_id, boundary) FROM renewal_failures
                WHERE account_key = owner.key AND state = 'unresolved') AS unresolved
        FROM unnest($1::text[], $2::text[]) AS owner (key, user_id)
        """,  # noqa: S608 - the fields' names
        keys,
        [user_id_of(key) or key for key in keys],
    )
    rows = {row["account_key"]: Subscription(*row[1:]) for row in subscriptions}
    return {row["key"]: _hosting(rows.get(row["key"]), row) for row in others}


async def save(connection: Connection, changes: list[Change[Hosting]], context: SaveContext) -> None:
    """Write what changed: instances before the rows that point to them."""
    await _save_instances(connection, changes, context)
    await _save_subscriptions(connection, changes, context)
    await _save_mails(connection, changes, context)
    await _save_early_events(connection, changes, context)
    await _save_earlybirds(connection, changes, context)


def _hosting(subscription: Subscription | None, row: Record) -> Hosting:
    renewal_at = subscription.credit_renewal_at if subscription else None
    is_unresolved = subscription is not None and (subscription.id, renewal_at) in row["unresolved"]
    return Hosting(
        subscription=subscription,
        instances=tuple(Instance(*one) for one in row["instances"]),
        mails={MailKey(email_type, cycle): state for email_type, cycle, state in row["mails"]},
        early_events=tuple(_early_event(*one) for one in row["early_events"]),
        earlybird_payment_id=row["earlybird_payment_id"],
        unresolved_renewal_at=renewal_at if is_unresolved else None,
    )


def _early_event(
    event_id: str, subscription_id: str, customer_id: str | None, type_: str, occurred_at: datetime, paid: str | None
) -> EarlyEvent:
    period = _paid_period(orjson.loads(paid)) if paid else None
    return EarlyEvent(event_id, subscription_id, customer_id, type_, occurred_at, period)


def _paid_period(said: dict[str, Any]) -> PaidPeriod:
    instants = {name: datetime.fromisoformat(said[name]) for name in ("starts_at", "ends_at")}
    return PaidPeriod(**(said | instants))


async def _save_subscriptions(connection: Connection, changes: list[Change[Hosting]], context: SaveContext) -> None:
    rows = [
        {
            **_known(after),
            "account_key": change.key,
            "partition": partition_of(change.key, context.partitions),
        }
        for change in changes
        if (after := change.after.subscription) is not None and after is not change.before.subscription
    ]
    if not rows:
        return
    await connection.execute(
        """
        INSERT INTO kiloclaw_subscriptions (
            id, user_id, account_key, partition, version, plan, status, payment_source, stripe_subscription_id,
            stripe_customer_id, stripe_schedule_id, instance_id, trial_started_at, trial_ends_at, current_period_start,
            current_period_end, cancel_at_period_end, commit_ends_at, scheduled_plan, scheduled_by, credit_renewal_at,
            credit_anchor_at, top_up_boundary, settled_at, past_due_since, suspended_at, destruction_deadline,
            last_stripe_event_at, last_read_at, created_at)
        SELECT
            id, user_id, account_key, partition, version, plan, status, payment_source, stripe_subscription_id,
            stripe_customer_id, stripe_schedule_id, instance_id, trial_started_at, trial_ends_at, current_period_start,
            current_period_end, cancel_at_period_end, commit_ends_at, scheduled_plan, scheduled_by, credit_renewal_at,
            credit_anchor_at, top_up_boundary, settled_at, past_due_since, suspended_at, destruction_deadline,
            last_stripe_event_at, last_read_at, created_at
        FROM json_populate_recordset(NULL::kiloclaw_subscriptions, $1::text::json)
        ON CONFLICT (id) DO UPDATE SET
            version = excluded.version, plan = excluded.plan, status = excluded.status,
            payment_source = excluded.payment_source, stripe_subscription_id = excluded.stripe_subscription_id,
            stripe_customer_id = excluded.stripe_customer_id, stripe_schedule_id = excluded.stripe_schedule_id,
            instance_id = excluded.instance_id, trial_started_at = excluded.trial_started_at,
            trial_ends_at = excluded.trial_ends_at, current_period_start = excluded.current_period_start,
            current_period_end = excluded.current_period_end, cancel_at_period_end = excluded.cancel_at_period_end,
            commit_ends_at = excluded.commit_ends_at, scheduled_plan = excluded.scheduled_plan,
            scheduled_by = excluded.scheduled_by, credit_renewal_at = excluded.credit_renewal_at,
            credit_anchor_at = excluded.credit_anchor_at, top_up_boundary = excluded.top_up_boundary,
            settled_at = excluded.settled_at,
            past_due_since = excluded.past_due_since,
            suspended_at = excluded.suspended_at, destruction_deadline = excluded.destruction_deadline,
            last_stripe_event_at = excluded.last_stripe_event_at, last_read_at = excluded.last_read_at
        """,
        dumps(rows),
    )


def _known(row: Subscription) -> dict[str, Any]:
    """The fields that have a value. The others become null; most have none, and would cost more than the rest."""
    return {name: value for name, value in asdict(row).items() if value is not None}


async def _save_instances(connection: Connection, changes: list[Change[Hosting]], context: SaveContext) -> None:
    """A new generation starts afresh with the runner: due at once, no attempts, no error."""
    rows = [
        {**asdict(instance), "partition": partition_of(change.key, context.partitions)}
        for change in changes
        for instance in change.after.instances
        if instance not in change.before.instances
    ]
    if not rows:
        return
    status = await connection.execute(
        """
        INSERT INTO kiloclaw_instances AS known (
            id, account_key, partition, created_at, desired_state, generation, done_generation, destroying_since,
            destroyed_at, wanted_since, due_at)
        SELECT
            id, account_key, partition, created_at, desired_state, generation, done_generation, destroying_since,
            destroyed_at, $2, $2
        FROM jsonb_populate_recordset(NULL::kiloclaw_instances, $1::text::jsonb)
        ON CONFLICT (id) DO UPDATE SET
            desired_state = excluded.desired_state, generation = excluded.generation,
            done_generation = excluded.done_generation, destroying_since = excluded.destroying_since,
            destroyed_at = excluded.destroyed_at, error = NULL,
            wanted_since = CASE WHEN excluded.generation > known.generation THEN $2 ELSE known.wanted_since END,
            due_at = CASE WHEN excluded.generation > known.generation THEN $2 ELSE known.due_at END,
            attempts = CASE WHEN excluded.generation > known.generation THEN 0 ELSE known.attempts END
        WHERE known.account_key = excluded.account_key
        """,
        dumps(rows),
        context.real_now,
    )
    if int(status.rpartition(" ")[2]) < len(rows):
        raise Refused("instance_of_another", "That instance belongs to another account.", status=409)


async def _save_mails(connection: Connection, changes: list[Change[Hosting]], context: SaveContext) -> None:
    rows = [
        (user_id_of(change.key) or change.key, change.key, mail.email_type, mail.cycle, state)
        for change in changes
        for mail, state in change.after.mails.items()
        if change.before.mails.get(mail) != state
    ]
    if not rows:
        return
    await connection.execute(
        """
        INSERT INTO kiloclaw_email_log (user_id, account_key, email_type, cycle, state, decided_at)
        SELECT *, $6 FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
        ON CONFLICT (user_id, email_type, cycle) DO UPDATE SET state = excluded.state
        """,
        *_columns(rows, 5),
        context.now,
    )


async def _save_early_events(connection: Connection, changes: list[Change[Hosting]], context: SaveContext) -> None:
    forgotten = [
        one.event_id for change in changes for one in change.before.early_events if one not in change.after.early_events
    ]
    remembered = [
        (
            one.event_id,
            change.key,
            one.stripe_subscription_id,
            one.stripe_customer_id,
            one.type,
            one.occurred_at,
            one.paid_period,
        )
        for change in changes
        for one in change.after.early_events
        if one not in change.before.early_events
    ]
    if forgotten:
        await connection.execute("DELETE FROM early_events WHERE event_id = ANY($1::text[])", forgotten)
    if remembered:
        await _require_unknown_customers(connection, [key for _, key, *_ in remembered])
        await connection.execute(
            """
            INSERT INTO early_events
                (event_id, account_key, stripe_subscription_id, stripe_customer_id, type, occurred_at, paid_period,
                remembered_at)
            SELECT *, $8 FROM unnest(
                $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::jsonb[])
            ON CONFLICT (event_id) DO NOTHING
            """,
            *_columns(remembered, 7),
            context.real_now,
        )


async def _require_unknown_customers(connection: Connection, keys: Iterable[str]) -> None:
    """Refuse to remember under a customer who became a user's between the look-up and the lock: nobody would look
    there (KC-31). The retry finds the user.
    """
    customers = [key.removeprefix(CUSTOMER_PREFIX) for key in keys if key.startswith(CUSTOMER_PREFIX)]
    if customers and await users.keys_of_customers(connection, customers):
        raise Retryable("the customer was registered meanwhile")


async def _save_earlybirds(connection: Connection, changes: list[Change[Hosting]], context: SaveContext) -> None:
    for change in changes:
        if change.after.earlybird_payment_id and change.before.earlybird_payment_id is None:
            await connection.execute(
                """
                INSERT INTO kiloclaw_earlybird_purchases (user_id, payment_id, purchased_at, account_key, partition)
                VALUES ($1, $2, $3, $4, $5)
                """,
                user_id_of(change.key),
                change.after.earlybird_payment_id,
                context.now,
                change.key,
                partition_of(change.key, context.partitions),
            )


def _columns(rows: list[tuple[Any, ...]], number: int) -> list[list[Any]]:
    """Rows turned into the arrays that `unnest` takes."""
    return [[row[index] for row in rows] for index in range(number)]


async def pays_for_a_row(connection: Connection, subscription_id: str) -> bool:
    """Whether a row that has not ended is bound to the subscription."""
    found: bool = await connection.fetchval(
        """
        SELECT EXISTS (
            SELECT FROM kiloclaw_subscriptions WHERE stripe_subscription_id = $1 AND status <> 'canceled')
        """,
        subscription_id,
    )
    return found
