"""What Postgres says, read in one statement."""

from datetime import datetime
from typing import Any

from bursar.db.connections import Connection

Row = dict[str, Any]
Facts = dict[str, list[Row]]


async def read_facts(connection: Connection) -> Facts:
    """The rows of the business and those of the service that its rules speak of; instants are ISO texts."""
    facts: Facts = await connection.fetchval(
        """
        SELECT jsonb_build_object(
            'subscriptions', (SELECT jsonb_agg(to_jsonb(one) ORDER BY user_id) FROM kiloclaw_subscriptions AS one),
            'instances', (SELECT jsonb_agg(to_jsonb(one) - 'lease' ORDER BY id) FROM kiloclaw_instances AS one),
            'mails', (
                SELECT jsonb_agg(to_jsonb(one) ORDER BY user_id, email_type, cycle) FROM kiloclaw_email_log AS one),
            'users', (SELECT jsonb_agg(to_jsonb(one) ORDER BY user_id) FROM users AS one),
            'earlybirds', (SELECT jsonb_agg(to_jsonb(one) ORDER BY user_id) FROM kiloclaw_earlybird_purchases AS one),
            'early_events', (SELECT jsonb_agg(to_jsonb(one) ORDER BY event_id) FROM early_events AS one),
            'credit_accounts', (SELECT jsonb_agg(to_jsonb(one) ORDER BY user_id) FROM credit_accounts AS one),
            'entries', (SELECT jsonb_agg(to_jsonb(one) ORDER BY id) FROM credit_transactions AS one),
            'credit_mismatches', (SELECT jsonb_agg(to_jsonb(one) ORDER BY user_id) FROM credit_mismatches AS one),
            'steps', (
                SELECT jsonb_agg(jsonb_build_object(
                    'key', key, 'account_key', account_key, 'kind', kind, 'state', state, 'asked', asked,
                    'attempts', attempts, 'due_at', due_at, 'error', error, 'payload', payload) ORDER BY key)
                FROM steps),
            'parked', (
                SELECT jsonb_agg(jsonb_build_object('message_id', message_id, 'type', type, 'state', state,
                    'error', error, 'attempts', attempts, 'retry_at', retry_at) ORDER BY message_id)
                FROM parked_messages),
            'ticks', (SELECT jsonb_agg(to_jsonb(one) ORDER BY id) FROM ticks AS one),
            'tick_partitions', (
                SELECT jsonb_agg(jsonb_build_object('tick_id', tick_id, 'partition', partition, 'state', state)
                    ORDER BY tick_id, partition)
                FROM tick_partitions))
        """
    )
    return {name: rows or [] for name, rows in facts.items()}


async def read_history(connection: Connection) -> Facts:
    """What only grows: the change log and the inbox."""
    facts: Facts = await connection.fetchval(
        """
        SELECT jsonb_build_object(
            'changes', (SELECT jsonb_agg(to_jsonb(one) ORDER BY id) FROM change_log AS one),
            'inbox', (SELECT jsonb_agg(jsonb_build_object('message_id', message_id) ORDER BY message_id) FROM inbox))
        """
    )
    return {name: rows or [] for name, rows in facts.items()}


def instant(text: str | None) -> datetime | None:
    """An instant of a row."""
    return datetime.fromisoformat(text) if text else None
