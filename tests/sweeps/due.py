"""Many rows at once, for what the sweeps find."""

from datetime import datetime
from typing import Any

from bursar.billing.account import user_key
from bursar.billing.values import replace
from bursar.db.connections import Connection
from bursar.sweeps.pages import START, Page, Window
from bursar.sweeps.table import due_page
from tests.billing.kiloclaw.making import CATALOGUE, NOW

MANY = 100_000
PARTITIONS = 32


async def make_rows(connection: Connection, number: int, *, prefix: str = "many", **columns: str) -> None:
    """That many users with a row each, spread over the partitions; `columns` are SQL of the row's number `n`."""
    fixed = {
        "plan": "'standard'",
        "status": "'active'",
        "payment_source": "'stripe'",
        "stripe_subscription_id": f"'sub_{prefix}_' || n",
        "current_period_start": "$3::timestamptz",
        "current_period_end": "$3::timestamptz + interval '30 days'",
    } | columns
    await connection.execute(
        """
        INSERT INTO accounts (key, partition)
        SELECT 'user:' || $1 || n, n % $2 FROM generate_series(1, $3::integer) AS n
        """,
        prefix,
        PARTITIONS,
        number,
    )
    # The columns are the test's own literals.
    await connection.execute(
        f"""
        INSERT INTO kiloclaw_subscriptions
            (id, user_id, account_key, partition, version, created_at, {", ".join(fixed)})
        SELECT gen_random_uuid(), $1 || n, 'user:' || $1 || n, n % {PARTITIONS}, 1, $3, {", ".join(fixed.values())}
        FROM generate_series(1, $2::integer) AS n
        """,  # noqa: S608
        prefix,
        number,
        NOW,
    )


def window(now: datetime = NOW, partition: int = 0, **changes: Any) -> Window:
    return replace(Window(partition, now, CATALOGUE, START, 64), **changes)


async def all_pages(connection: Connection, sweep: str, first: Window) -> list[Page]:
    """Every page from the first window on."""
    pages = [await due_page(connection, sweep, first)]
    while (cursor := pages[-1].cursor) is not None:
        pages.append(await due_page(connection, sweep, replace(first, after=cursor)))
    return pages


def key(prefix: str, number: int) -> str:
    return user_key(f"{prefix}{number}")
