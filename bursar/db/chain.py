"""What followed for one account besides the changes of its rows: steps with their mails, and messages set aside."""

from datetime import datetime

from bursar.billing.values import Value
from bursar.db.connections import Connection


class FollowedStep(Value):
    """A step and the message or tick that caused it. Of a mail, `state` and `at` are the mail log's (business time).
    Nothing else of payload and journal is read: they may hold addresses of pages (MS-14).
    """

    id: int
    kind: str
    mail: str | None
    state: str
    cause: str
    error: str | None
    at: datetime
    operation: str | None = None


class SetAside(Value):
    """A message of the account that failed and waits for its retry or for an operator."""

    message_id: str
    type: str
    state: str
    error: str
    at: datetime


async def newest_steps(connection: Connection, account_key: str, limit: int) -> list[FollowedStep]:
    """At most `limit` steps, newest first."""
    rows = await connection.fetch(
        """
        SELECT steps.id, kind, mail.email_type AS mail, coalesce(mail.state, steps.state) AS state, cause, error,
            coalesce(mail.decided_at, steps.created_at) AS at, payload->>'operation' AS operation
        FROM steps LEFT JOIN kiloclaw_email_log AS mail
            ON kind = 'send_mail' AND mail.account_key = steps.account_key
                AND mail.email_type = payload->>'email_type' AND mail.cycle = payload->>'cycle'
        WHERE steps.account_key = $1 ORDER BY steps.id DESC LIMIT $2
        """,
        account_key,
        limit,
    )
    return [FollowedStep(**row) for row in rows]


async def newest_set_aside(connection: Connection, account_key: str, limit: int) -> list[SetAside]:
    """At most `limit` messages that wait, newest first."""
    rows = await connection.fetch(
        """
        SELECT message_id, type, state, error, last_failed_at AS at FROM parked_messages
        WHERE account_key = $1 AND state IN ('retrying', 'parked') ORDER BY last_failed_at DESC LIMIT $2
        """,
        account_key,
        limit,
    )
    return [SetAside(**row) for row in rows]
